//! Where a run is executed: program, machine, device, clock. The only module that reads a wall clock.

use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Command;

/// What two runs of one manifest may differ in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The package's version, as in `0.1.0`. With the hash of the sources, as in
    /// `0.1.0+src.0123456789abcdef`, where no git revision names them.
    pub version: String,
    /// The git revision that the program was built from, where it was built in a checkout.
    pub git_revision: Option<String>,
    /// Whether that checkout held changes that were not committed.
    pub git_dirty: Option<bool>,
    /// The compiler, as in `rustc 1.95.0`.
    pub rustc: String,
    /// Versions of the libraries that do arithmetic, as in `candle-core 0.11.1, rayon 1.12.0`.
    pub libraries: String,
    pub host: String,
    /// Operating system and architecture, as in `linux x86_64`.
    pub os: String,
    /// The processor's name.
    pub cpu: String,
    /// The instruction set that the kernels were compiled for at run time, as in `AVX2+FMA`.
    pub instructions: String,
    /// Processors that the program may use.
    pub cores: u32,
    /// Physical memory in bytes; 0 where it is unknown.
    pub memory_bytes: u64,
    /// Threads that the operators run on.
    pub threads: u32,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The GPU's model, as in `NVIDIA H100 80GB HBM3`. `None` on the CPU, and in runs of versions that
    /// did not record it.
    pub gpu: Option<String>,
    /// Versions of the GPU's driver and of the CUDA toolkit; `None` as for `gpu`.
    pub cuda: Option<String>,
}

impl Environment {
    /// This program on this machine, computing on `device` (`cpu` or `cuda:N`) with `threads`
    /// threads. It does not ask a GPU's driver.
    #[must_use]
    pub fn detect(device: &str, threads: usize, instructions: &str) -> Self {
        Self {
            version: env!("REPRO_PACKAGE_VERSION").to_owned(),
            git_revision: built_in(env!("REPRO_GIT_REVISION")),
            git_dirty: built_in(env!("REPRO_GIT_DIRTY")).map(|dirty| dirty == "true"),
            rustc: env!("REPRO_RUSTC").to_owned(),
            libraries: env!("REPRO_LIBRARIES").to_owned(),
            host: host().unwrap_or_else(unknown),
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cpu: cpu().unwrap_or_else(unknown),
            instructions: instructions.to_owned(),
            cores: cores() as u32,
            memory_bytes: memory_bytes().unwrap_or(0),
            threads: threads as u32,
            device: device.to_owned(),
            gpu: None,
            cuda: None,
        }
    }

    /// What computed, whatever its number on the machine: `cpu`, or a GPU's model.
    #[must_use]
    pub fn device_model(&self) -> &str {
        match &self.gpu {
            Some(model) => model,
            None if self.device.starts_with("cuda:") => "GPU of unknown model",
            None => &self.device,
        }
    }

    /// `cpu`, or a GPU's number with its model, as in `cuda:0 (NVIDIA H100 80GB HBM3)`.
    #[must_use]
    pub fn device_with_model(&self) -> String {
        match &self.gpu {
            Some(model) => format!("{} ({model})", self.device),
            None => self.device.clone(),
        }
    }
}

/// The program's version with its git revision, as in `0.1.0 (0123456789ab)`.
#[must_use]
pub fn program_version() -> &'static str {
    env!("REPRO_VERSION")
}

/// A value that `build.rs` has set, unless it is empty.
fn built_in(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// Processors that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn host() -> Option<String> {
    file("/proc/sys/kernel/hostname").or_else(|| command("hostname", &[]))
}

fn cpu() -> Option<String> {
    let info = file("/proc/cpuinfo").unwrap_or_default();
    // /proc/cpuinfo has names on x86 only; elsewhere `lscpu` maps numbers to names.
    field(&info, "model name")
        .or_else(|| field(&command("lscpu", &[])?, "Model name"))
        .or_else(|| command("sysctl", &["-n", "machdep.cpu.brand_string"]))
}

fn memory_bytes() -> Option<u64> {
    let kib = file("/proc/meminfo").and_then(|info| field(&info, "MemTotal"));
    match kib {
        Some(kib) => kib.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024),
        None => command("sysctl", &["-n", "hw.memsize"])?.parse().ok(),
    }
}

fn file(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|t| !t.is_empty())
}

fn command(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The value of the first line `key : value`.
fn field(text: &str, key: &str) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.trim() == key)?;
    Some(value.trim().to_owned())
}

/// What Linux knows of a process, from `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// One letter, as in `ps`.
    pub state: char,
    /// User and system time, in clock ticks.
    pub busy_ticks: u64,
    /// When it started, in clock ticks since boot.
    pub started: i64,
}

impl ProcessStat {
    /// The command's name, in parentheses, may itself hold spaces and parentheses.
    #[must_use]
    pub fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let user: u64 = fields.nth(10)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(Self { state, busy_ticks: user + system, started: fields.nth(6)?.parse().ok()? })
    }
}

/// Seconds since 1970, UTC.
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |d| d.as_secs_f64())
}

/// `2026-01-31 23:59:58`: the date and time of day of `seconds` since 1970, UTC.
#[must_use]
pub fn utc(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day, `days` after 1 January 1970. Years are counted from March, so that the leap
/// day is the last (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_may_hold_parentheses() {
        let stat = "7 (a) R (b) S 1 7 7 0 -1 4 9 0 0 0 120 30 0 0 20 0 1 0 185198 3133440 350";
        let expected = ProcessStat { state: 'S', busy_ticks: 150, started: 185_198 };
        assert_eq!(ProcessStat::parse(stat), Some(expected));
    }

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(utc(0.0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_399.9), "2000-02-28 23:59:59");
        assert_eq!(utc(951_782_400.0), "2000-02-29 00:00:00");
        assert_eq!(utc(4_107_542_400.0), "2100-03-01 00:00:00");
        assert_eq!(utc(1_769_903_998.0), "2026-01-31 23:59:58");
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "model\t\t: 17\nmodel name\t: AMD EPYC\nflags : a b";
        assert_eq!(field(info, "model name").as_deref(), Some("AMD EPYC"));
        assert_eq!(field(info, "name"), None);
    }

    #[test]
    fn the_machine_is_described() {
        let environment = Environment::detect("cpu", 2, "AVX2+FMA");
        assert!(environment.rustc.starts_with("rustc "), "{environment:?}");
        assert!(environment.libraries.contains("candle-core 0."), "{environment:?}");
        assert!(environment.cores >= 1 && environment.threads == 2, "{environment:?}");
        assert!(environment.git_revision.is_none_or(|r| r.len() == 40));
    }
}
