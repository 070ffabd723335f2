//! A picture of lines, dots and text, as SVG.

use crate::text::xml;
use std::fmt::Write;

/// Pixels from the left and from the top.
pub type Pixel = (f64, f64);

/// A picture on a white background.
#[derive(Clone, Debug)]
pub struct Drawing {
    title: String,
    size: (f64, f64),
    /// Places of the next shapes are relative to it.
    origin: Pixel,
    shapes: Vec<Shape>,
}

#[derive(Clone, Debug)]
enum Shape {
    Line {
        places: Vec<Pixel>,
        pen: Pen,
    },
    Band {
        places: Vec<Pixel>,
        colour: &'static str,
    },
    Dot {
        centre: Pixel,
        radius: f64,
        colour: &'static str,
        opacity: f64,
    },
    Text {
        place: Pixel,
        anchor: Anchor,
        bold: bool,
        text: String,
    },
    /// An invisible circle that shows a text under the pointer.
    Hover {
        centre: Pixel,
        text: String,
    },
}

/// Colour, width and dashes of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pen {
    /// For example `#0072b2`.
    pub colour: &'static str,
    pub width: f64,
    /// Length of the dashes; a solid line when `None`.
    pub dash: Option<f64>,
}

/// Which point of a text its place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

const INK: &str = "#222222";
const FONT_SIZE: f64 = 11.0;
const GAP: f64 = 3.0;
/// How near the pointer has to be, in pixels.
const HOVER: f64 = 5.0;

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

    /// Sets the origin of the next shapes.
    pub fn at(&mut self, origin: Pixel) -> &mut Self {
        self.origin = origin;
        self
    }

    fn moved(&self, (x, y): Pixel) -> Pixel {
        (self.origin.0 + x, self.origin.1 + y)
    }

    /// A line through at least two places; nothing through fewer.
    pub fn line(&mut self, places: &[Pixel], pen: Pen) {
        if places.len() > 1 {
            let places = places.iter().map(|place| self.moved(*place)).collect();
            self.shapes.push(Shape::Line { places, pen });
        }
    }

    /// A pale area between two lines that have the same horizontal places.
    pub fn band(&mut self, upper: &[Pixel], lower: &[Pixel], colour: &'static str) {
        let around = upper.iter().chain(lower.iter().rev());
        let places = around.map(|place| self.moved(*place)).collect();
        self.shapes.push(Shape::Band { places, colour });
    }

    /// A filled circle.
    pub fn dot(&mut self, centre: Pixel, radius: f64, colour: &'static str, opacity: f64) {
        let centre = self.moved(centre);
        self.shapes.push(Shape::Dot { centre, radius, colour, opacity });
    }

    /// A text that browsers show while the pointer is near `place`.
    pub fn hover(&mut self, place: Pixel, text: String) {
        let centre = self.moved(place);
        self.shapes.push(Shape::Hover { centre, text });
    }

    /// Text whose baseline is at `place`.
    pub fn text(&mut self, place: Pixel, anchor: Anchor, text: &str) {
        self.write(place, anchor, false, text);
    }

    /// Bold text that starts at `place`.
    pub fn heading(&mut self, place: Pixel, text: &str) {
        self.write(place, Anchor::Start, true, text);
    }

    fn write(&mut self, place: Pixel, anchor: Anchor, bold: bool, text: &str) {
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
}

impl Shape {
    fn svg(&self) -> String {
        match self {
            Self::Line { places, pen } => {
                let dash = pen.dash.map(|dash| format!(" stroke-dasharray=\"{dash} {GAP}\""));
                format!(
                    "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"{}/>",
                    path(places),
                    pen.colour,
                    pen.width,
                    dash.unwrap_or_default()
                )
            }
            Self::Band { places, colour } => {
                let path = path(places);
                format!("<path d=\"{path}Z\" fill=\"{colour}\" fill-opacity=\"0.15\"/>")
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
            Self::Hover { centre: (x, y), text } => {
                let text = xml(text);
                format!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{HOVER}\" fill-opacity=\"0\"><title>{text}</title></circle>"
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
}

/// `M1.0 2.0L3.0 4.0`
fn path(places: &[Pixel]) -> String {
    let places: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    format!("M{}", places.join("L"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_move_with_the_origin_and_text_is_escaped() {
        let mut drawing = Drawing::new("a < b", (60.0, 20.0));
        drawing.line(&[(5.0, 10.0), (15.0, 10.0)], Pen::solid("#ff0000", 2.0));
        drawing.at((20.0, 0.0)).dot((5.0, 10.0), 3.0, "#0000ff", 1.0);
        drawing.text((15.0, 14.0), Anchor::Start, "&é☃\u{1b}");
        drawing.hover((5.0, 10.0), "1 < 2".to_owned());
        let svg = drawing.svg();
        assert!(svg.contains("<title>1 &lt; 2</title></circle>"), "{svg}");
        for part in ["M5.0 10.0L15.0 10.0", "cx=\"25.0\" cy=\"10.0\"", "&amp;é☃\\u{1b}", "a &lt; b"]
        {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn a_line_needs_two_places() {
        let mut drawing = Drawing::new("", (0.0, 0.0));
        drawing.line(&[(1.0, 1.0)], Pen::ink());
        assert!(!drawing.svg().contains("<path"));
    }
}
