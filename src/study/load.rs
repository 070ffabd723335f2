//! How many processor cores other programs or virtual machines kept busy while a point was measured.
//! Their work makes steps slower, so a report must not call such seconds undisturbed.

use crate::env::ProcessStat;
use std::fs;
use std::time::Instant;

/// Units of processor time in `/proc`, fixed by the kernel's interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// Above so many cores, others count as a disturbance. Below lie the system's own services,
/// and the resolution of a short measurement.
pub const DISTURBING_CORES: f64 = 0.2;

/// Measures from when it starts.
pub struct LoadMeter {
    start: Instant,
    ticks: Option<Ticks>,
}

/// Processor time in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    /// Of all processors, since the machine started.
    machine: u64,
    /// Of this process.
    own: u64,
}

impl LoadMeter {
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), ticks: Ticks::now() }
    }

    /// Cores that others kept busy on average. `None` where the system does not tell; only
    /// Linux does.
    #[must_use]
    pub fn other_cores(&self) -> Option<f64> {
        let others = Ticks::now()?.others_since(self.ticks?);
        let cores = others / TICKS_PER_SECOND / self.start.elapsed().as_secs_f64();
        // Ticks are coarse: within a few of them, more time may seem to pass than there is.
        let all = std::thread::available_parallelism().ok()?.get();
        Some(cores.min(all as f64))
    }
}

impl Ticks {
    fn now() -> Option<Self> {
        let machine = busy_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
        let own = ProcessStat::parse(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(Self { machine, own: own.busy_ticks })
    }

    fn others_since(self, before: Self) -> f64 {
        let machine = self.machine.saturating_sub(before.machine);
        machine.saturating_sub(self.own.saturating_sub(before.own)) as f64
    }
}

/// Busy time of all processors from `/proc/stat`: user, nice, system, interrupts and what another
/// virtual machine took. The fields between them are idle time and waiting for disks.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let fields: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _, _, irq, soft_irq, steal, ..] = fields[..] else { return None };
    Some(user + nice + system + irq + soft_irq + steal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_not_busy() {
        let stat = "cpu  10 1 5 900 50 2 3 4 7 0\ncpu0 5 0 2 450 25 1 1 2 0 0\n";
        assert_eq!(busy_ticks(stat), Some(25));
        assert_eq!(busy_ticks("cpu  10 1 5\n"), None);
    }

    #[test]
    fn own_time_does_not_count_as_others() {
        let before = Ticks { machine: 1000, own: 10 };
        assert_eq!(Ticks { machine: 1150, own: 110 }.others_since(before), 50.0);
        // The machine's ticks are coarser than those of the process.
        assert_eq!(Ticks { machine: 1099, own: 110 }.others_since(before), 0.0);
    }
}
