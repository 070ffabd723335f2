//! `repro doctor`: what this machine has, and whether this program can use its GPUs.

use super::output::stdout;
use anyhow::Result;
use repro::env::Environment;
use repro::memory;
use repro::ops::gpu::{self, CudaVersion, DriverInfo, GpuInfo, GpuProblem, Toolkit};
use repro::ops::instruction_set;
use repro::text::{self, one_line, without_backtrace};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Show the processor, the memory and the GPUs, and what is missing to use a GPU.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  repro doctor
  repro doctor --json

Computes a little on each GPU that it can use. A GPU that cannot be used is no error.

Keys of --json:
  version              version and git revision of this program
  os                   operating system
  cpu                  model of the processor
  cores                cores that this program may use
  instructions         instruction set of the operators on the CPU
  memory_bytes         memory of the machine
  free_memory_bytes    memory that this program can still take, or null
  toolkit.cuda         CUDA version of the build; toolkit is null without GPU support
  toolkit.compute      least compute capability of a GPU, as in [8,0]
  nvcc                 path of the CUDA compiler that a build would use, or null
  driver               release of the NVIDIA driver, or null
  driver_cuda          newest CUDA version that the driver supports, or null
  problem              why no GPU can be used, or null
  gpus[].device        value for --device, as in cuda:0
  gpus[].name          name that the driver gives
  gpus[].memory_bytes  all of the GPU's memory
  gpus[].compute       compute capability, as in [8,0]
  gpus[].problem       why this GPU cannot be used; null if it computes correctly")]
pub struct Args {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The keys of `--json`.
#[derive(Serialize)]
struct Diagnosis {
    version: &'static str,
    os: String,
    cpu: String,
    cores: u32,
    instructions: String,
    memory_bytes: u64,
    free_memory_bytes: Option<u64>,
    /// What this program was built with; null without GPU support.
    toolkit: Option<Toolkit>,
    /// The CUDA compiler that a build would use.
    nvcc: Option<PathBuf>,
    /// Release of the NVIDIA driver.
    driver: Option<String>,
    /// The newest CUDA that the driver supports.
    driver_cuda: Option<CudaVersion>,
    /// Why no GPU can be used.
    problem: Option<String>,
    gpus: Vec<DiagnosedGpu>,
}

#[derive(Serialize)]
struct DiagnosedGpu {
    /// As for `repro run --device`.
    device: String,
    #[serde(flatten)]
    info: GpuInfo,
    /// Why it cannot be used.
    problem: Option<String>,
}

/// # Errors
/// When nothing can be written.
pub fn run(args: &Args) -> Result<()> {
    let diagnosis = Diagnosis::make();
    let mut out = stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&diagnosis)?)?;
    } else {
        write!(out, "{}", diagnosis.text())?;
    }
    Ok(())
}

impl Diagnosis {
    fn make() -> Self {
        let machine = Environment::detect("cpu", rayon::current_num_threads(), instruction_set());
        let toolkit = gpu::toolkit();
        let driver = gpu::driver_info();
        let gpus = driver.as_ref().map(diagnose).unwrap_or_default();
        let problem = match &driver {
            Err(problem) => Some(problem.to_string()),
            Ok(driver) if driver.gpus.is_empty() => Some(GpuProblem::NoGpu.to_string()),
            Ok(_) => None,
        };
        let driver = driver.ok();
        Self {
            version: env!("REPRO_VERSION"),
            os: machine.os,
            cpu: machine.cpu,
            cores: machine.cores,
            instructions: machine.instructions,
            memory_bytes: machine.memory_bytes,
            free_memory_bytes: memory::available_bytes(),
            toolkit,
            nvcc: nvcc(),
            driver_cuda: driver.as_ref().map(|driver| driver.cuda),
            driver: driver.and_then(|driver| driver.release),
            problem,
            gpus,
        }
    }

    fn text(&self) -> String {
        let free = self.free_memory_bytes.map_or_else(String::new, |free| {
            format!(", {} of {} memory are free", text::bytes(free), text::bytes(self.memory_bytes))
        });
        let cores = text::plural(self.cores, "core");
        let mut lines = vec![
            ("program", format!("{}, {}", self.version, self.support())),
            ("cpu", format!("{}, {cores}, {}{free}", self.cpu, self.instructions)),
            ("driver", self.driver()),
        ];
        let gpus: Vec<String> = self.gpus.iter().map(DiagnosedGpu::text).collect();
        lines.extend(self.gpus.iter().zip(gpus).map(|(gpu, text)| (gpu.device.as_str(), text)));
        if self.toolkit.is_none() {
            let found = self.nvcc.as_ref().map(|nvcc| nvcc.display().to_string());
            let missing = "not found; a build with GPU support needs it (docs/gpu.md)";
            lines.push(("nvcc", found.unwrap_or_else(|| missing.to_owned())));
        }
        lines.push(("use", self.advice()));
        lines.iter().map(|(name, text)| format!("{name:<9}{}\n", one_line(text))).collect()
    }

    fn support(&self) -> String {
        match self.toolkit {
            None => "built without GPU support".to_owned(),
            Some(Toolkit { cuda, compute: (major, minor) }) => {
                format!("built with CUDA {cuda} for compute capability {major}.{minor} and newer")
            }
        }
    }

    fn driver(&self) -> String {
        match (self.driver_cuda, &self.problem) {
            (Some(cuda), problem) => {
                let release = self.driver.as_deref().unwrap_or("of unknown release");
                let problem = problem.as_ref().map_or_else(String::new, |text| format!("; {text}"));
                format!("NVIDIA {release}, supports CUDA {cuda}{problem}")
            }
            (None, problem) => problem.clone().unwrap_or_default(),
        }
    }

    fn advice(&self) -> String {
        let usable = self.gpus.iter().filter(|gpu| gpu.problem.is_none());
        let devices: Vec<String> = usable.map(|gpu| format!("--device {}", gpu.device)).collect();
        if devices.is_empty() { "--device cpu".to_owned() } else { text::list(devices) }
    }
}

impl DiagnosedGpu {
    fn text(&self) -> String {
        let GpuInfo { name, memory_bytes, compute: (major, minor) } = &self.info;
        let verdict = match &self.problem {
            None => "it computes correctly".to_owned(),
            Some(problem) => format!("not usable: {problem}"),
        };
        let memory = text::bytes(*memory_bytes);
        format!("{name}, {memory}, compute capability {major}.{minor}; {verdict}")
    }
}

/// Each GPU, with the result of a test where this program can use it.
fn diagnose(driver: &DriverInfo) -> Vec<DiagnosedGpu> {
    let gpus = driver.gpus.iter().cloned().enumerate();
    let diagnosed = gpus.map(|(number, info)| {
        let tested = gpu::open(number)
            .map_err(|problem| problem.to_string())
            .and_then(|device| gpu::self_test(&device).map_err(|error| error.to_string()));
        let problem = tested.err().map(|text| without_backtrace(&text));
        DiagnosedGpu { device: format!("cuda:{number}"), info, problem }
    });
    diagnosed.collect()
}

/// The compiler in `PATH`, then in the folders where cudarc looks.
fn nvcc() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let homes = homes.map(PathBuf::from).chain([PathBuf::from("/usr/local/cuda")]);
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(homes.map(|home| home.join("bin"))).collect();
    folders.into_iter().map(|folder| folder.join("nvcc")).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args as _;
    use serde_json::Value;

    /// The paths of all values, in order: `gpus[].name`.
    fn keys(value: &Value, path: &str, found: &mut Vec<String>) {
        let dot = if path.is_empty() { "" } else { "." };
        match value {
            Value::Object(object) => {
                object.iter().for_each(|(key, v)| keys(v, &format!("{path}{dot}{key}"), found));
            }
            Value::Array(list) if list[0].is_object() => {
                keys(&list[0], &format!("{path}[]"), found);
            }
            _ => found.push(path.to_owned()),
        }
    }

    #[test]
    fn help_names_all_json_keys() {
        let compute = (8, 0);
        let cuda = CudaVersion { major: 13, minor: 0 };
        let info = GpuInfo { name: String::new(), memory_bytes: 0, compute };
        let gpu = DiagnosedGpu { device: "cuda:0".to_owned(), info, problem: None };
        let toolkit = Some(Toolkit { cuda, compute });
        let diagnosis = Diagnosis { toolkit, gpus: vec![gpu], ..Diagnosis::make() };
        let mut printed = Vec::new();
        keys(&serde_json::to_value(&diagnosis).unwrap(), "", &mut printed);
        let help = Args::augment_args(clap::Command::new("doctor"));
        let help = help.get_after_help().unwrap().to_string();
        let (_, listed) = help.split_once("Keys of --json:\n").unwrap();
        let named: Vec<&str> =
            listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(named, printed);
    }
}
