//! What to say about a run that a GPU had too little memory for.

use super::need::need_of;
use super::plan::{NetworkSource, RunPlan};
use crate::cost::Backend;
use crate::ops::gpu;
use crate::text;
use anyhow::{Error, anyhow};
use candle_core::Device;

impl RunPlan<'_> {
    /// The error of this run on `device`, with settings that need less memory if a GPU ran out of it.
    #[must_use]
    pub fn explain(&self, error: Error, device: &Device) -> Error {
        let is_out_of_memory = |cause: &candle_core::Error| gpu::is_out_of_memory(cause);
        if error.chain().filter_map(|cause| cause.downcast_ref()).any(is_out_of_memory) {
            return anyhow!("the GPU is out of memory; {}", self.smaller(device));
        }
        error
    }

    /// Settings that need less memory than this run's, in one sentence.
    fn smaller(&self, device: &Device) -> String {
        let backend = gpu::backend(device).unwrap_or(Backend::Gpu);
        let methods = match &self.source {
            NetworkSource::Search(_, method) => std::slice::from_ref(*method),
            NetworkSource::Given(_) => &[],
        };
        let threads = rayon::current_num_threads();
        let Some(need) = need_of(self.manifest, methods, threads, backend) else {
            return "its runs need none, which is a bug in this program".to_owned();
        };
        let free = gpu::memory(device).ok().flatten().map_or(0, |memory| memory.available());
        let settings = need.smaller_settings(free).into_iter().map(|setting| {
            let note = if setting.fits { "" } else { ", perhaps still too much" };
            format!("{} ({}{note})", setting.options, text::bytes(need.taken(setting.bytes)))
        });
        format!(
            "{} needs about {} at batch size {}. These settings need less: {}",
            need.subject(),
            text::bytes(need.taken(need.bytes)),
            need.batch(),
            settings.collect::<Vec<_>>().join("; ")
        )
    }
}
