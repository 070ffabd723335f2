//! `repro watch`: what runs are doing, in a second terminal.

mod dashboard;
mod screen;

use super::output::stdout;
use anyhow::{Context, Result};
use dashboard::Dashboard;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use repro::store::{RunStatus, Store};
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

/// Watch runs while they go on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro watch
  repro watch 12

Shows the runs of the database, and of the selected one its progress, the time left in its phase, its
measurements, memory and probabilities. Keys: up and down select a run, q ends. The database is only
read: runs are not disturbed. Without a terminal, a line per running run is printed every ten seconds until
none is running.")]
pub struct Args {
    /// The run to show; the newest one that is running, without it.
    #[arg(value_name = "RUN")]
    run: Option<i64>,
}

/// How often the database is read.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same without a terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// # Errors
/// When the database cannot be read, has no such run, or the terminal cannot be used.
pub fn run(args: &Args, store: &Store) -> Result<()> {
    let dashboard = Dashboard::read(store, args.run)?;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return print(store, args.run);
    }
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let result = show(&mut terminal, store, dashboard);
    ratatui::restore();
    result
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Move(isize),
    End,
}

fn request(key: KeyEvent) -> Option<Request> {
    let is_interrupt =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        _ if key.kind == KeyEventKind::Release => None,
        _ if is_interrupt => Some(Request::End),
        KeyCode::Char('q') | KeyCode::Esc => Some(Request::End),
        KeyCode::Up | KeyCode::Char('k') => Some(Request::Move(-1)),
        KeyCode::Down | KeyCode::Char('j') => Some(Request::Move(1)),
        KeyCode::PageUp => Some(Request::Move(-10)),
        KeyCode::PageDown => Some(Request::Move(10)),
        _ => None,
    }
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    store: &Store,
    mut dashboard: Dashboard,
) -> Result<()> {
    loop {
        terminal.draw(|frame| screen::draw(frame, &dashboard))?;
        let drawn = Instant::now();
        let mut selected = dashboard.selected();
        while let Some(rest) = INTERVAL.checked_sub(drawn.elapsed()) {
            if !event::poll(rest)? {
                break;
            }
            let Event::Key(key) = event::read()? else { break };
            match request(key) {
                Some(Request::End) => return Ok(()),
                Some(Request::Move(by)) => {
                    selected = dashboard.moved(by);
                    break;
                }
                None => {}
            }
        }
        dashboard = Dashboard::read(store, selected)?;
    }
}

/// A line per running run, until none is running.
fn print(store: &Store, run: Option<i64>) -> Result<()> {
    let mut out = stdout();
    loop {
        let dashboard = Dashboard::read(store, run)?;
        let shown = |line: &&dashboard::RunLine| match run {
            Some(id) => line.id == id,
            None => line.status == RunStatus::Running,
        };
        let lines: Vec<_> = dashboard.runs.iter().filter(shown).collect();
        for line in &lines {
            writeln!(out, "{}", line.sentence())?;
        }
        if lines.is_empty() {
            writeln!(out, "no run is running")?;
        }
        out.flush()?;
        if !lines.iter().any(|line| line.status == RunStatus::Running) {
            return Ok(());
        }
        thread::sleep(PLAIN_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_select_and_end() {
        let plain = |code| request(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(plain(KeyCode::Down), Some(Request::Move(1)));
        assert_eq!(plain(KeyCode::Char('k')), Some(Request::Move(-1)));
        assert_eq!(plain(KeyCode::Char('q')), Some(Request::End));
        assert_eq!(plain(KeyCode::Char('c')), None);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(request(interrupt), Some(Request::End));
    }
}
