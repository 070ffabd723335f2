//! A picture of lines, dots and text, as SVG and as PNG.

use crate::text::xml;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};
use std::fmt::Write;
use tiny_skia::{
    Color, FillRule, LineCap, Paint, PathBuilder, Pixmap, Stroke, StrokeDash, Transform,
};

/// Pixels from the left and from the top.
pub type Place = (f64, f64);

/// A picture that is being drawn, white where nothing is.
#[derive(Clone, Debug)]
pub struct Drawing {
    title: String,
    size: (f64, f64),
    /// Where what is drawn next has its origin.
    origin: Place,
    shapes: Vec<Shape>,
}

#[derive(Clone, Debug)]
enum Shape {
    Line { places: Vec<Place>, pen: Pen },
    Dot { centre: Place, radius: f64, colour: &'static str, opacity: f64 },
    Text { place: Place, anchor: Anchor, bold: bool, text: String },
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pen {
    /// As in `#0072b2`.
    pub colour: &'static str,
    pub width: f64,
    /// Length of the dashes; a solid line when `None`.
    pub dash: Option<f64>,
}

/// Which point of a text is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

const INK: &str = "#222222";
const FONT_SIZE: f64 = 11.0;
const GAP: f64 = 3.0;
/// Pixels of the PNG for one of the SVG.
const SCALE: f64 = 2.0;
/// The bitmap font that is nearest to the font size at that scale.
const HEIGHT: RasterHeight = RasterHeight::Size20;

impl Pen {
    #[must_use]
    pub const fn solid(colour: &'static str, width: f64) -> Self {
        Self { colour, width, dash: None }
    }

    /// For axes and their ticks.
    #[must_use]
    pub const fn ink() -> Self {
        Self::solid(INK, 1.0)
    }
}

impl Drawing {
    /// An empty picture of this size in pixels.
    #[must_use]
    pub fn new(title: &str, size: (f64, f64)) -> Self {
        let title = title.to_owned();
        Self { title, size, origin: (0.0, 0.0), shapes: Vec::new() }
    }

    /// What is drawn from now on has its origin there.
    pub fn at(&mut self, origin: Place) -> &mut Self {
        self.origin = origin;
        self
    }

    fn moved(&self, (x, y): Place) -> Place {
        (self.origin.0 + x, self.origin.1 + y)
    }

    /// A line through some places; none through fewer than two.
    pub fn line(&mut self, places: &[Place], pen: Pen) {
        if places.len() > 1 {
            let places = places.iter().map(|place| self.moved(*place)).collect();
            self.shapes.push(Shape::Line { places, pen });
        }
    }

    /// A filled circle.
    pub fn dot(&mut self, centre: Place, radius: f64, colour: &'static str, opacity: f64) {
        let centre = self.moved(centre);
        self.shapes.push(Shape::Dot { centre, radius, colour, opacity });
    }

    /// A text on its base line.
    pub fn text(&mut self, place: Place, anchor: Anchor, text: &str) {
        self.write(place, anchor, false, text);
    }

    /// A text that begins there.
    pub fn heading(&mut self, place: Place, text: &str) {
        self.write(place, Anchor::Start, true, text);
    }

    fn write(&mut self, place: Place, anchor: Anchor, bold: bool, text: &str) {
        let (place, text) = (self.moved(place), text.to_owned());
        self.shapes.push(Shape::Text { place, anchor, bold, text });
    }

    #[must_use]
    pub fn svg(&self) -> String {
        let (title, (width, height)) = (xml(&self.title), self.size);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
             font-size=\"{FONT_SIZE}\" fill=\"{INK}\" role=\"img\" aria-label=\"{title}\">\n\
             <title>{title}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        for shape in &self.shapes {
            let _ = writeln!(svg, "{}", shape.svg());
        }
        svg + "</svg>\n"
    }

    /// Twice as many pixels along each side as the SVG has; `None` where it has no size.
    #[must_use]
    pub fn png(&self) -> Option<Vec<u8>> {
        let pixels = |length: f64| (SCALE * length).ceil() as u32;
        let mut canvas = Pixmap::new(pixels(self.size.0), pixels(self.size.1))?;
        canvas.fill(Color::WHITE);
        for shape in &self.shapes {
            shape.paint(&mut canvas);
        }
        encode(&canvas)
    }
}

/// A white ground has no transparency, so that its pixels are plain RGB.
fn encode(canvas: &Pixmap) -> Option<Vec<u8>> {
    let rgb: Vec<u8> =
        canvas.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, canvas.width(), canvas.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&rgb).ok()?;
    writer.finish().ok()?;
    Some(bytes)
}

impl Shape {
    fn svg(&self) -> String {
        match self {
            Self::Line { places, pen } => {
                let places: Vec<String> =
                    places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
                let dash = pen.dash.map(|dash| format!(" stroke-dasharray=\"{dash} {GAP}\""));
                format!(
                    "<path d=\"M{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"{}/>",
                    places.join("L"),
                    pen.colour,
                    pen.width,
                    dash.unwrap_or_default()
                )
            }
            Self::Dot { centre: (x, y), radius, colour, opacity } => {
                let opacity = if *opacity < 1.0 {
                    format!(" fill-opacity=\"{opacity}\"")
                } else {
                    String::new()
                };
                format!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"{opacity}/>"
                )
            }
            Self::Text { place: (x, y), anchor, bold, text } => {
                let anchor = match anchor {
                    Anchor::Start => "",
                    Anchor::Middle => " text-anchor=\"middle\"",
                    Anchor::End => " text-anchor=\"end\"",
                };
                let bold = if *bold { " font-weight=\"bold\"" } else { "" };
                format!("<text x=\"{x:.1}\" y=\"{y:.1}\"{anchor}{bold}>{}</text>", xml(text))
            }
        }
    }

    fn paint(&self, canvas: &mut Pixmap) {
        match self {
            Self::Line { places, pen } => {
                let mut path = PathBuilder::new();
                for (i, (x, y)) in places.iter().enumerate() {
                    let (x, y) = (scaled(*x), scaled(*y));
                    if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
                }
                let dash = pen.dash.map(|dash| vec![scaled(dash), scaled(GAP)]);
                let stroke = Stroke {
                    width: scaled(pen.width),
                    line_cap: LineCap::Butt,
                    dash: dash.and_then(|dash| StrokeDash::new(dash, 0.0)),
                    ..Stroke::default()
                };
                if let Some(path) = path.finish() {
                    let paint = paint(pen.colour, 1.0);
                    canvas.stroke_path(&path, &paint, &stroke, Transform::identity(), None);
                }
            }
            Self::Dot { centre: (x, y), radius, colour, opacity } => {
                if let Some(path) =
                    PathBuilder::from_circle(scaled(*x), scaled(*y), scaled(*radius))
                {
                    let paint = paint(colour, *opacity);
                    canvas.fill_path(&path, &paint, FillRule::Winding, Transform::identity(), None);
                }
            }
            Self::Text { place, anchor, bold, text } => {
                paint_text(canvas, *place, *anchor, text);
                if *bold {
                    // The font has one weight here.
                    paint_text(canvas, (place.0 + 0.5, place.1), *anchor, text);
                }
            }
        }
    }
}

fn scaled(length: f64) -> f32 {
    (SCALE * length) as f32
}

/// The colour of `#rrggbb`.
fn paint(colour: &str, opacity: f64) -> Paint<'static> {
    let channel = |i: usize| {
        colour.get(i..i + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or_default()
    };
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(channel(1), channel(3), channel(5), (255.0 * opacity) as u8);
    paint
}

/// Darkens the pixels of each letter. What the font lacks becomes a question mark.
fn paint_text(canvas: &mut Pixmap, (x, y): Place, anchor: Anchor, text: &str) {
    let letter = |c| get_raster(c, FontWeight::Regular, HEIGHT);
    let letters: Vec<_> = text.chars().filter_map(|c| letter(c).or_else(|| letter('?'))).collect();
    let length: usize = letters.iter().map(noto_sans_mono_bitmap::RasterizedChar::width).sum();
    let back = match anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => 0.5,
        Anchor::End => 1.0,
    };
    let mut left = (SCALE * x - back * length as f64).round() as i64;
    // A letter's box ends a quarter of its height below the base line.
    let top = (SCALE * y).round() as i64 - (3 * HEIGHT.val() / 4) as i64;
    let (width, height) = (i64::from(canvas.width()), i64::from(canvas.height()));
    for letter in letters {
        for (row, line) in letter.raster().iter().enumerate() {
            for (column, ink) in line.iter().enumerate() {
                let (x, y) = (left + column as i64, top + row as i64);
                if (0..width).contains(&x) && (0..height).contains(&y) {
                    let at = 4 * (y * width + x) as usize;
                    for channel in &mut canvas.data_mut()[at..at + 3] {
                        *channel = (*channel).min(255 - ink / 8 * 7);
                    }
                }
            }
        }
        left += letter.width() as i64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Drawing {
        let mut drawing = Drawing::new("a < b", (60.0, 20.0));
        drawing.line(&[(5.0, 10.0), (15.0, 10.0)], Pen::solid("#ff0000", 2.0));
        drawing.at((20.0, 0.0)).dot((5.0, 10.0), 3.0, "#0000ff", 1.0);
        drawing.text((15.0, 14.0), Anchor::Start, "&é☃");
        drawing
    }

    #[test]
    fn a_picture_is_the_same_as_svg_and_as_png() {
        let svg = picture().svg();
        for part in ["M5.0 10.0L15.0 10.0", "cx=\"25.0\" cy=\"10.0\"", "&amp;é☃", "a &lt; b"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        let png = picture().png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (120, 40));
        let pixel = |x: usize, y: usize| {
            let at = 3 * (y * 120 + x);
            [pixels[at], pixels[at + 1], pixels[at + 2]]
        };
        assert_eq!(pixel(20, 20), [255, 0, 0]);
        assert_eq!(pixel(50, 20), [0, 0, 255]);
        assert_eq!(pixel(2, 2), [255, 255, 255]);
        let dark = (68..120).flat_map(|x| (8..36).map(move |y| (x, y)));
        assert!(dark.filter(|(x, y)| pixel(*x, *y)[0] < 128).count() > 20);
    }

    #[test]
    fn a_line_needs_two_places_and_a_picture_a_size() {
        let mut drawing = Drawing::new("", (0.0, 0.0));
        drawing.line(&[(1.0, 1.0)], Pen::ink());
        assert!(!drawing.svg().contains("<path"));
        assert_eq!(drawing.png(), None);
    }
}
