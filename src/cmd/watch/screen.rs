//! The screen of `repro watch`.

use super::dashboard::{Curve, Dashboard, Details, RunLine, RunProgress};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, Gauge, Paragraph, Row, Table, TableState};
use repro::store::RunStatus;
use repro::text::{bytes, one_line, percent};

/// Rows of the list of runs, with its frame and heading.
const LIST: u16 = 11;

pub fn draw(frame: &mut Frame<'_>, dashboard: &Dashboard) {
    let areas = Layout::vertical([
        Constraint::Length(LIST.min(dashboard.runs.len() as u16 + 3)),
        Constraint::Length(3),
        Constraint::Min(3),
        Constraint::Length(1),
    ]);
    let [list, progress, details, keys] = areas.areas(frame.area());
    draw_list(frame, list, dashboard);
    draw_progress(frame, progress, dashboard);
    if let Some(shown) = &dashboard.details {
        draw_details(frame, details, shown);
    }
    frame.render_widget(Line::from(" up, down: select a run   q: end"), keys);
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard) {
    let heading = ["run", "experiment", "method", "seed", "status", "top-1", "progress"];
    let widths = [
        Constraint::Length(6),
        Constraint::Max(24),
        Constraint::Length(14),
        Constraint::Length(6),
        Constraint::Length(11),
        Constraint::Length(8),
        Constraint::Min(24),
    ];
    let table = Table::new(dashboard.runs.iter().map(row), widths)
        .header(Row::new(heading).style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::new().borders(Borders::ALL).title(" runs "));
    let mut state = TableState::new().with_selected(dashboard.place());
    frame.render_stateful_widget(table, area, &mut state);
}

fn row(run: &RunLine) -> Row<'static> {
    let colour = match run.status {
        RunStatus::Running => Color::Cyan,
        RunStatus::Finished => Color::Green,
        RunStatus::Failed => Color::Red,
        RunStatus::Interrupted => Color::Yellow,
    };
    Row::new([
        Cell::from(run.id.to_string()),
        Cell::from(one_line(&run.experiment)),
        Cell::from(one_line(&run.method)),
        Cell::from(run.seed.to_string()),
        Cell::from(run.status.name()).style(Style::new().fg(colour)),
        Cell::from(run.top1.map_or_else(String::new, percent)),
        Cell::from(run.progress.as_ref().map_or_else(String::new, RunProgress::text)),
    ])
}

fn draw_progress(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard) {
    let shown = dashboard.place().map(|place| &dashboard.runs[place]);
    let title = dashboard.details.as_ref().map_or("no runs yet", |details| &details.title);
    let block = Block::new().borders(Borders::ALL).title(format!(" {} ", one_line(title)));
    if let Some(progress) = shown.and_then(|run| run.progress.as_ref()) {
        let gauge = Gauge::default()
            .block(block)
            .gauge_style(Style::new().fg(Color::Cyan))
            .ratio(progress.share().clamp(0.0, 1.0))
            .label(progress.text());
        frame.render_widget(gauge, area);
    } else {
        let error = dashboard.details.as_ref().and_then(|details| details.error.as_deref());
        let status = shown.map_or("", |run| run.status.name());
        let text = error.map_or_else(|| status.to_owned(), one_line);
        frame.render_widget(Paragraph::new(text).block(block), area);
    }
}

fn draw_details(frame: &mut Frame<'_>, area: Rect, details: &Details) {
    let [curves, side] =
        Layout::horizontal([Constraint::Min(40), Constraint::Length(34)]).areas(area);
    let name = details.curves.iter().map(|curve| curve.name.len()).max().unwrap_or(0);
    let line = |curve: &Curve| {
        Line::from(format!("{:name$}  {:40}  {}", curve.name, curve.bars, curve.last))
    };
    let lines: Vec<Line<'_>> = details.curves.iter().map(line).collect();
    let block = Block::new().borders(Borders::ALL).title(" measurements ");
    frame.render_widget(Paragraph::new(lines).block(block), curves);

    let memory = details
        .memory
        .iter()
        .map(|(phase, peak)| Line::from(format!("{:8} {}", phase.name(), bytes(*peak))));
    let mut lines: Vec<Line<'_>> = vec![Line::from("peak memory").style(Modifier::BOLD)];
    lines.extend(memory);
    if !details.probabilities.is_empty() {
        lines.push(Line::from("final probabilities").style(Modifier::BOLD));
        let bars = details.probabilities.iter();
        lines.extend(bars.map(|(name, bars)| Line::from(format!("{name:14} {bars}"))));
    }
    let block = Block::new().borders(Borders::ALL).title(" memory and choices ");
    frame.render_widget(Paragraph::new(lines).block(block), side);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use repro::record::Phase;

    fn dashboard() -> Dashboard {
        let progress = RunProgress { phase: Phase::Search, epochs: Some((2, 6)), left: Some(20.0) };
        let run = |id, status, top1, progress| RunLine {
            id,
            experiment: "compare".to_owned(),
            method: "dmasking".to_owned(),
            seed: 3,
            status,
            top1,
            progress,
        };
        Dashboard {
            runs: vec![
                run(8, RunStatus::Running, None, Some(progress)),
                run(7, RunStatus::Finished, Some(0.8123), None),
            ],
            details: Some(Details {
                id: 8,
                title: "run 8: compare, dmasking, seed 3, cpu".to_owned(),
                error: None,
                curves: vec![Curve {
                    name: "search.loss".to_owned(),
                    bars: "█▁".to_owned(),
                    last: "1.8123".to_owned(),
                }],
                memory: vec![(Phase::Data, 200 << 20)],
                probabilities: vec![("1.1 type".to_owned(), "▁█ 0.90".to_owned())],
            }),
        }
    }

    fn screen(dashboard: &Dashboard, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, dashboard)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content.chunks(usize::from(width));
        lines
            .map(|cells| cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>() + "\n")
            .collect()
    }

    #[test]
    fn everything_is_on_the_screen() {
        let text = screen(&dashboard(), (110, 24));
        for part in [
            "search, 2 of 6 epochs, about 20.0 s left",
            "81.23 %",
            "search.loss  █▁",
            "1.8123",
            "200.00 MiB",
            "1.1 type       ▁█ 0.90",
            "q: end",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn no_size_and_no_run_is_a_problem() {
        for size in [(110, 24), (40, 10), (10, 3), (1, 1)] {
            screen(&dashboard(), size);
            screen(&Dashboard::default(), size);
        }
        assert!(screen(&Dashboard::default(), (110, 24)).contains("no runs yet"));
    }
}
