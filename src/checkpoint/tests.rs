//! Checkpoints survive a round trip bit for bit, and damage is noticed.

use super::*;
use crate::fuzz::{Outcome, Reader};
use crate::ops::gpu;
use candle_core::{Device, Tensor};
use std::fs;
use tempfile::TempDir;

const NUMBERS: [f64; 6] = [0.1 + 0.2, 1.0 / 3.0, f64::MIN_POSITIVE, f64::MAX, -0.0, 5e-324];

fn id(count: u32) -> CheckpointId {
    CheckpointId { attempt: 1, count }
}

fn load(folder: &Folder) -> Loaded {
    folder.load(&Device::Cpu, |_| true).unwrap()
}

fn checkpoint(number: u32) -> Checkpoint {
    let values = [0.1_f32, -0.0, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN, number as f32];
    let tensor = Tensor::from_slice(&values, (2, 3), &Device::Cpu).unwrap();
    let mut search = Stage::with("numbers", &NUMBERS).unwrap();
    search.put("step", &u64::MAX).unwrap();
    search.put_tensors("weights", [("b", &tensor), ("a", &tensor)]);
    search.put_tensors("velocities", []);
    let usage = PhaseUsage { seconds: 1.25, images: 7, macs: Some(9), ..PhaseUsage::default() };
    let phase =
        PhaseState { phase: Phase::Search, started_at: 0.3, usage, is_finished: number > 1 };
    Checkpoint {
        id: id(number),
        phases: vec![phase],
        has_architecture: true,
        data_sha256: Some("ab".to_owned()),
        stages: [("search".to_owned(), search), ("search/candidate".to_owned(), Stage::default())]
            .into(),
    }
}

fn folder() -> (TempDir, Folder) {
    let folder = tempfile::tempdir().unwrap();
    let own = Folder::of_run(&folder.path().join("results.db"), 3);
    (folder, own)
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    gpu::download(tensor).unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn everything_is_read_back_to_the_bit() {
    let (_guard, folder) = folder();
    assert!(load(&folder).checkpoint.is_none());
    let written = checkpoint(12);
    folder.save(&written, id(0)).unwrap();
    let Loaded { checkpoint: read, problems } = load(&folder);
    assert_eq!(problems, Vec::<String>::new());
    let read = read.unwrap();
    assert_eq!((read.id, read.has_architecture), (id(12), true));
    assert_eq!((&read.phases, &read.data_sha256), (&written.phases, &written.data_sha256));
    assert_eq!(read.stages.keys().collect::<Vec<_>>(), ["search", "search/candidate"]);
    let (read, written) = (&read.stages["search"], &written.stages["search"]);
    let numbers: Vec<f64> = read.get("numbers").unwrap();
    assert_eq!(numbers.map_bits(), NUMBERS.to_vec().map_bits());
    assert_eq!(read.get::<u64>("step").unwrap(), u64::MAX);
    let (read, written) = (read.tensors("weights").unwrap(), written.tensors("weights").unwrap());
    for ((name, tensor), (expected_name, expected)) in read.iter().zip(written) {
        assert_eq!((name, bits(tensor)), (expected_name, bits(expected)));
        assert_eq!(tensor.dims(), [2, 3]);
    }
}

trait MapBits {
    fn map_bits(self) -> Vec<u64>;
}

impl MapBits for Vec<f64> {
    fn map_bits(self) -> Vec<u64> {
        self.into_iter().map(f64::to_bits).collect()
    }
}

#[test]
fn a_number_that_json_does_not_have_is_refused() {
    let error = Stage::with("best", &[1.0, f64::NAN]).unwrap_err();
    assert!(format!("{error:#}").contains("\"best\" cannot be read back"), "{error:#}");
}

#[test]
fn two_checkpoints_are_kept_and_all_removed() {
    let (guard, folder) = folder();
    for number in 1..=4 {
        folder.save(&checkpoint(number), id(number - 1)).unwrap();
    }
    assert_eq!(folder.ids(), [id(3), id(4)]);
    // After 4 was found damaged, and 3 was used.
    folder.remove_after(id(3)).unwrap();
    assert_eq!(folder.ids(), [id(3)]);
    folder.save(&checkpoint(5), id(3)).unwrap();
    assert_eq!(folder.ids(), [id(3), id(5)]);
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 4, "two files of each");
    folder.remove().unwrap();
    folder.remove().unwrap();
    assert_eq!(fs::read_dir(guard.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let (_guard, folder) = folder();
    folder.save(&checkpoint(1), id(0)).unwrap();
    folder.save(&checkpoint(2), id(1)).unwrap();
    let path = folder.path().join("1-000002.safetensors");
    let whole = fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let damages = (0..whole.len()).step_by(37).map(flipped);
    let truncated = [0, 7, 100, whole.len() - 1].map(|len| whole[..len].to_vec());
    for bytes in damages.chain(truncated) {
        fs::write(&path, bytes).unwrap();
        let Loaded { checkpoint, problems } = load(&folder);
        assert_eq!((checkpoint.unwrap().id, problems.len()), (id(1), 1));
        assert!(problems[0].contains("1-000002.safetensors"), "{problems:?}");
    }
    // Without one before, the error is that of the newest.
    fs::remove_file(folder.path().join("1-000001.safetensors")).unwrap();
    let error = folder.load(&Device::Cpu, |_| true).unwrap_err();
    assert!(error.to_string().contains("1-000002"), "{error}");
}

#[test]
fn a_checkpoint_that_the_database_does_not_know_is_not_used() {
    let (_guard, folder) = folder();
    folder.save(&checkpoint(1), id(0)).unwrap();
    folder.save(&checkpoint(2), id(1)).unwrap();
    let Loaded { checkpoint, problems } =
        folder.load(&Device::Cpu, |known| known == id(1)).unwrap();
    assert_eq!((checkpoint.unwrap().id, problems.len()), (id(1), 1));
    let Loaded { checkpoint, problems } = folder.load(&Device::Cpu, |_| false).unwrap();
    assert!(checkpoint.is_none());
    assert!(problems[0].contains("1-000002.safetensors"), "{problems:?}");
}

#[test]
fn what_cannot_be_written_leaves_the_one_before() {
    let (_guard, folder) = folder();
    folder.save(&checkpoint(1), id(0)).unwrap();
    let part = format!("1-000002.part-{}", std::process::id());
    fs::create_dir(folder.path().join(&part)).unwrap();
    let error = folder.save(&checkpoint(2), id(1)).unwrap_err().to_string();
    assert!(error.contains("1-000002.safetensors"), "{error}");
    assert_eq!(folder.ids(), [id(1)]);
    assert_eq!(load(&folder).checkpoint.unwrap().id, id(1));
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let (_guard, folder) = folder();
    folder.save(&checkpoint(1), id(0)).unwrap();
    let whole = fs::read(folder.path().join("1-000001.safetensors")).unwrap();
    let mut stream = crate::rng::Seed(1).stream("damage", 0);
    for _ in 0..2_000 {
        let mut bytes = whole.clone();
        for _ in 0..=stream.below(8) {
            let at = stream.below(bytes.len());
            bytes[at] = stream.below(256) as u8;
        }
        bytes.truncate(stream.below(bytes.len()) + 1);
        let _ = file::parse(&bytes, &Device::Cpu);
    }
}

/// The length of the header in front of it, as if the values were as long as before.
fn mend(before: usize, file: &mut [u8]) {
    let grown = (file.len() as u64).wrapping_sub(before as u64);
    if let Some(length) = file.first_chunk_mut::<8>() {
        *length = u64::from_le_bytes(*length).wrapping_add(grown).to_le_bytes();
    }
}

#[test]
fn mutated_checkpoints() {
    let inputs = [1, 12].map(|number| {
        let (_guard, folder) = folder();
        folder.save(&checkpoint(number), id(0)).unwrap();
        fs::read(file::paths(folder.path(), id(number)).0).unwrap()
    });
    let words = [
        "\"__metadata__\":",
        "\"repro.checkpoint\":",
        "\"dtype\":\"F32\"",
        "\"dtype\":\"F64\"",
        "\"shape\":[0,18446744073709551615]",
        "\"shape\":[]",
        "\"data_offsets\":[0,24]",
        "[1,1]",
        "{}",
        "[",
        "\\\"version\\\":2",
        "\\\"tensors\\\":[[\\\"weights\\\",[\\\"a\\\",\\\"a\\\"]]]",
        "\\\"a\\\",",
        "null",
        "1e400",
        "18446744073709551616",
        "\\ud800",
        "\"search/weights/b\"",
        ",",
        "}",
    ];
    Reader {
        test: "checkpoint::tests::mutated_checkpoints",
        name: "checkpoint",
        inputs: inputs.to_vec(),
        words: &words.map(str::as_bytes),
        cases: 60_000,
        mend,
        read: &|bytes| {
            let parsed = file::parse(bytes, &Device::Cpu);
            Outcome::of(parsed, (1 << 16) + 100 * bytes.len() as u64)
        },
    }
    .check();
}

/// A few bytes that name a tensor again must not take its memory again.
#[test]
fn a_tensor_is_listed_once() {
    let (_guard, folder) = folder();
    let tensor = Tensor::zeros(1000, candle_core::DType::F32, &Device::Cpu).unwrap();
    let mut stage = Stage::default();
    stage.put_tensors("weights", [("a", &tensor), ("b", &tensor)]);
    let stages = [("search".to_owned(), stage)].into();
    folder.save(&Checkpoint { stages, ..checkpoint(1) }, id(0)).unwrap();
    let bytes = fs::read(file::paths(folder.path(), id(1)).0).unwrap();
    let text = br#"\"a\",\"b\""#;
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    assert!(file::parse(&bytes, &Device::Cpu).is_ok());
    let mut twice = bytes.clone();
    twice[at..at + text.len()].copy_from_slice(br#"\"a\",\"a\""#);
    let error = file::parse(&twice, &Device::Cpu).unwrap_err();
    assert_eq!(error, "search/weights/a is listed twice");
}
