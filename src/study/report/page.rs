//! What the report of a memory study has: its sections, in order.

use super::points::{GrowthCurve, Load, PointResult};
use super::tables::{growth_table, point_table};
use super::{predictions, verdicts};
use crate::report::page::{Part, Section};
use crate::report::{Figure, origin};
use crate::space::{SearchSpace, parse_space};
use crate::store::RunRow;
use std::path::Path;

/// What the page is made of.
pub struct Content<'a> {
    /// Those that count, one per method.
    pub runs: Vec<RunRow>,
    /// Sentences on runs that did not measure all of their points, and on other programs.
    pub warnings: Vec<String>,
    pub points: &'a [PointResult],
    pub curves: &'a [GrowthCurve],
    pub figures: Vec<Figure>,
}

impl Content<'_> {
    pub fn sections(&self) -> Vec<Section> {
        let first = self.runs.first();
        let space = first.and_then(space_of);
        let mut opening = origin(&self.runs);
        opening.parts.extend(about(self.points));
        let mut sections = vec![opening, self.verdicts(space.as_ref())];
        let growth = vec![Part::Table(growth_table(self.curves)), Part::paragraph(GROWTH)];
        sections.push(Section::new("Growth", growth));
        sections.extend(space.map(|space| {
            let threads = first.map_or(1, |run| run.environment.threads as usize);
            what_fits(&space, threads, &self.runs)
        }));
        let points = vec![Part::Table(point_table(self.points)), Part::paragraph(POINTS)];
        sections.push(Section::new("Points", points));
        sections
    }

    fn verdicts(&self, space: Option<&SearchSpace>) -> Section {
        let dataset = self.runs.first().map_or("", |run| &run.dataset[..]);
        let warnings = self.warnings.iter().map(|line| format!("{line}."));
        let verdicts = verdicts::list(dataset, space, self.points, self.curves);
        let mut parts: Vec<Part> = Part::list(warnings.chain(verdicts)).into_iter().collect();
        parts.extend(self.figures.iter().cloned().map(Part::Figure));
        parts.extend((!self.figures.is_empty()).then(|| Part::paragraph(PICTURES)));
        Section::new("Verdicts", parts)
    }
}

fn space_of(run: &RunRow) -> Option<SearchSpace> {
    parse_space(&run.manifest.space_text, Path::new(&run.manifest.space_name)).ok()
}

/// What was measured, and how.
fn about(points: &[PointResult]) -> [Part; 2] {
    let mut batches: Vec<u64> = points.iter().map(|p| p.batch).collect();
    batches.sort_unstable();
    batches.dedup();
    let batch = batches.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ");
    let processes = points.iter().map(|p| p.repeats.len()).max().unwrap_or(0);
    let load = match Load::of(points) {
        Load::NotRecorded => "What else ran on the machine was not recorded.".to_owned(),
        Load::Quiet(most) => {
            format!("Other programs kept at most {most:.2} cores busy during a process.")
        }
        Load::Disturbed { .. } => "Other programs ran at the same time, see below.".to_owned(),
    };
    [
        Part::paragraph(format!(
            "A step trains the supernet's weights on {batch} images. Each point was measured by up to \
             {processes} processes, each of which measured that point alone. {load}"
        )),
        Part::marked(
            "One dimension grows at a time. Every other choice keeps one option: the largest size, or the \
             first block type. `all` grows every dimension at once. The number of options is a maximum: a \
             block never has more options than the space gives it. Of sizes, the largest is always among \
             the options and the others are spread evenly; of block types, the first ones are taken. \
             `dmasking` masks shared weights and has one branch per block type; `dnas` and `darts` have \
             one block per option.",
        ),
    ]
}

fn what_fits(space: &SearchSpace, threads: usize, runs: &[RunRow]) -> Section {
    let ids: Vec<i64> = runs.iter().map(|run| run.id).collect();
    let about = format!(
        "The memory model predicts these figures from the text of {}, for the space as a whole. GB are \
         10^9 bytes. On a GPU there are no per-thread tiles, and the GPU libraries take some hundred MB \
         that are not counted.",
        space.name
    );
    let parts = vec![
        Part::paragraph(predictions::reason(space, threads)),
        Part::Table(predictions::table(space, threads, &ids)),
        Part::paragraph(about),
    ];
    Section::new("What would fit", parts)
}

const PICTURES: &str = "Squares are measured masked supernets, dots are measured explicit ones, open \
dots are predictions without a measurement. In the first picture, lines are predictions of the memory \
model; in the second, they join the points. Bytes and seconds are medians over processes. The vertical \
axis is logarithmic where everything grows, and over the size of the space.";

const GROWTH: &str = "Each row goes from the fewest to the most measured options. Bytes and seconds are \
medians over processes. A slope is that of a least-squares line: of bytes through the medians, of \
seconds through all processes, with a 95 % interval (Student's t). R² is the share of the variance of \
bytes that the line explains. A curve whose bytes grow with R² below 0.99 is marked as bent. Bent \
curves, and curves of fewer than four points, have no interval. Where blocks have fewer options than \
the row says, growth flattens, which is a property of the space. The last column is twice the slope \
over log10 of the number of networks.";

const POINTS: &str = "MiB and seconds are medians over processes; the range of the seconds is given \
where there are several. A point without a measured peak needs more memory than was free, or than the \
manifest allows, and was predicted only. The error is that of the memory model: predicted over \
measured, minus one. Other cores are the most that other programs or virtual machines kept busy during a process. The CSV file has the bytes by owner and by phase.";
