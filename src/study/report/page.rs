//! The Markdown page of a memory study.

use super::points::{GrowthCurve, Load, PointResult};
use super::tables::{growth_table, point_table};
use super::{predictions, verdicts};
use crate::report::page::origin;
use crate::space::{SearchSpace, parse_space};
use crate::store::RunRow;
use crate::text::escape;
use std::path::Path;

/// What the page is made of.
pub struct Page<'a> {
    /// Those that count, one per method.
    pub runs: Vec<RunRow>,
    /// Sentences on runs that did not measure all of their points, and on other programs.
    pub warnings: Vec<String>,
    pub points: &'a [PointResult],
    pub curves: &'a [GrowthCurve],
    /// What each picture shows, and its file.
    pub pictures: &'a [(&'a str, String)],
    pub command_line: &'a str,
}

impl Page<'_> {
    pub fn markdown(&self) -> String {
        let first = self.runs.first();
        let experiment = first.map_or("", |run| run.experiment.as_str());
        let space = first.and_then(space_of);
        let mut page =
            vec![format!("# {}\n", escape(experiment)), origin(&self.runs, self.command_line)];
        page.push(about(self.points));
        page.push(self.verdicts(space.as_ref()));
        page.extend(self.pictures.iter().map(|(kind, name)| {
            let kind = if *kind == "bytes" { "Peak bytes" } else { "Seconds" };
            format!("![{kind} of a step over the options and over the size of the space]({name})\n")
        }));
        page.extend((!self.pictures.is_empty()).then(|| PICTURES.to_owned()));
        page.push(format!("## Growth\n\n{}\n{GROWTH}", growth_table(self.curves).markdown()));
        page.extend(space.map(|space| {
            let threads = first.map_or(1, |run| run.environment.threads as usize);
            what_fits(&space, threads)
        }));
        page.push(format!("## Points\n\n{}\n{POINTS}", point_table(self.points).markdown()));
        page.join("\n")
    }

    fn verdicts(&self, space: Option<&SearchSpace>) -> String {
        let dataset = self.runs.first().map_or("", |run| &run.dataset[..]);
        let warnings = self.warnings.iter().map(|line| format!("- {}.\n", escape(line)));
        let warnings: String = warnings.collect();
        let verdicts = verdicts::list(dataset, space, self.points, self.curves);
        format!("## Verdicts\n\n{warnings}{verdicts}")
    }
}

fn space_of(run: &RunRow) -> Option<SearchSpace> {
    parse_space(&run.manifest.space_text, Path::new(&run.manifest.space_name)).ok()
}

/// What was measured, and how.
fn about(points: &[PointResult]) -> String {
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
    format!(
        "A step trains the supernet's weights on {batch} images. Each point was measured by up to \
         {processes} processes, each of which measured that point alone. {load}\n\n\
         One dimension grows at a time. Every other choice keeps one option: the largest size, or the \
         first block type. `all` grows every dimension at once. The number of options is a maximum: a \
         block never has more options than the space gives it. Of sizes, the largest is always among \
         the options and the others are spread evenly; of block types, the first ones are taken. \
         `dmasking` masks shared weights and has one branch per block type; `dnas` and `darts` have \
         one block per option.\n"
    )
}

fn what_fits(space: &SearchSpace, threads: usize) -> String {
    format!(
        "## What would fit\n\n{}\n\n{}\nThe memory model predicts these figures from the text of {}, \
         for the space as a whole. GB are 10^9 bytes. On a GPU there are no per-thread tiles, and the \
         GPU libraries take some hundred MB that are not counted.\n",
        predictions::reason(space, threads),
        predictions::table(space, threads).markdown(),
        escape(&space.name)
    )
}

const PICTURES: &str = "Squares are measured masked supernets, dots are measured explicit ones, open \
dots are predictions without a measurement. In the first picture, lines are predictions of the memory \
model; in the second, they join the points. Bytes and seconds are medians over processes. The vertical \
axis is logarithmic where everything grows, and over the size of the space.\n";

const GROWTH: &str = "Each row goes from the fewest to the most measured options. Bytes and seconds are \
medians over processes. A slope is that of a least-squares line: of bytes through the medians, of \
seconds through all processes, with a 95 % interval (Student's t). R² is the share of the variance of \
bytes that the line explains. A curve whose bytes grow with R² below 0.99 is marked as bent. Bent \
curves, and curves of fewer than four points, have no interval. Where blocks have fewer options than \
the row says, growth flattens, which is a property of the space. The last column is twice the slope \
over log10 of the number of networks.\n";

const POINTS: &str = "MiB and seconds are medians over processes; the range of the seconds is given \
where there are several. A point without a measured peak needs more memory than was free, or than the \
manifest allows, and was predicted only. The error is that of the memory model: predicted over \
measured, minus one. Other cores are the most that other programs or virtual machines kept busy during a process. The CSV file has the bytes by owner and by phase.\n";
