//! Compiles the `.cu` files with NVRTC, for the GPU that is there, at their first use.

use crate::ops::gpu::Source;
use candle_core::{Result, bail};
use cudarc::nvrtc::result::{
    compile_program, create_program, destroy_program, get_program_log, get_ptx,
};
use cudarc::nvrtc::sys;
use std::ffi::{CStr, CString, c_char};

/// `.ci/nvrtc` compiles with the same text and options.
const OPTIONS: &str = include_str!("../nvrtc.options");
const HEADS: [(&str, &str); 2] =
    [("cuda.cuh", include_str!("../cuda.cuh")), ("common.cuh", include_str!("../common.cuh"))];

/// What `cuModuleLoadData` takes: the machine code of `source` for this compute capability. Where NVRTC
/// does not know it, assembly language for the newest that it knows, which the driver compiles.
pub(super) fn compile(source: &Source, compute: (u32, u32)) -> Result<Vec<c_char>> {
    let wanted = (compute.0 * 10 + compute.1) as i32;
    let Some(newest) = architectures()?.into_iter().filter(|known| *known <= wanted).max() else {
        bail!("NVRTC compiles nothing for compute capability {}.{}", compute.0, compute.1);
    };
    let kind = if newest == wanted { "sm" } else { "compute" };
    let architecture = format!("--gpu-architecture={kind}_{newest}");
    let options = OPTIONS.lines().filter(|line| line.starts_with('-'));
    let options: Vec<&str> = options.chain([architecture.as_str()]).collect();
    let program = Program::new(source)?;
    program.compile(source.name, &options)?;
    if newest == wanted { program.machine_code() } else { program.assembly() }
}

/// The toolkit's version, as 13040 for 13.4.
pub(super) fn toolkit_version() -> i32 {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are places for an integer. A failure leaves version 0, which every driver supports.
    #[allow(unsafe_code)]
    unsafe {
        sys::nvrtcVersion(&raw mut major, &raw mut minor);
    }
    major * 1000 + minor * 10
}

/// Compute capabilities that NVRTC compiles for, as 90 for 9.0.
pub(super) fn architectures() -> Result<Vec<i32>> {
    let mut count = 0;
    // SAFETY: `count` is a place for an integer, `known` one for `count` of them.
    #[allow(unsafe_code)]
    unsafe {
        sys::nvrtcGetNumSupportedArchs(&raw mut count).result().map_err(failed)?;
        let mut known = vec![0; count as usize];
        sys::nvrtcGetSupportedArchs(known.as_mut_ptr()).result().map_err(failed)?;
        Ok(known)
    }
}

fn failed(error: cudarc::nvrtc::result::NvrtcError) -> candle_core::Error {
    candle_core::Error::msg(format!("NVRTC: {:?}", error.0))
}

/// A program of NVRTC, and the texts that it refers to.
struct Program {
    program: sys::nvrtcProgram,
    _text: CString,
    _name: CString,
}

impl Program {
    fn new(source: &Source) -> Result<Self> {
        let file = format!("{}.cu", source.name);
        let parts = HEADS.into_iter().chain([(file.as_str(), source.text)]);
        let text: String =
            parts.map(|(name, part)| format!("#line 1 \"{name}\"\n{part}\n")).collect();
        let (Ok(text), Ok(name)) = (CString::new(text), CString::new(file)) else {
            bail!("{}.cu holds a NUL", source.name)
        };
        let program = create_program(&text, Some(&name)).map_err(failed)?;
        Ok(Self { program, _text: text, _name: name })
    }

    fn compile(&self, name: &str, options: &[&str]) -> Result<()> {
        // SAFETY: the program is not destroyed before `self`. Its log ends with a NUL.
        #[allow(unsafe_code)]
        unsafe {
            if compile_program(self.program, options).is_err() {
                let log = get_program_log(self.program).map_err(failed)?;
                let log = CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned();
                bail!("{name}.cu does not compile with {options:?}:\n{log}");
            }
        }
        Ok(())
    }

    fn machine_code(&self) -> Result<Vec<c_char>> {
        let mut size = 0;
        // SAFETY: the program is compiled, for a real architecture; `code` has the size that NVRTC says.
        #[allow(unsafe_code)]
        unsafe {
            sys::nvrtcGetCUBINSize(self.program, &raw mut size).result().map_err(failed)?;
            let mut code = vec![0; size];
            sys::nvrtcGetCUBIN(self.program, code.as_mut_ptr()).result().map_err(failed)?;
            Ok(code)
        }
    }

    fn assembly(&self) -> Result<Vec<c_char>> {
        // SAFETY: the program is compiled.
        #[allow(unsafe_code)]
        unsafe { get_ptx(self.program) }.map_err(failed)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: nothing uses the program any more. A failure only leaks it.
        #[allow(unsafe_code)]
        let _ = unsafe { destroy_program(self.program) };
    }
}
