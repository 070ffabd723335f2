//! JPEGs of all subsamplings and kinds of scans against the pixels of libjpeg-turbo 2.1.5.
//!
//! `fixtures/jpeg` was made from one picture of 37x29 pixels by `cjpeg -quality 90 -sample SAMPLING`
//! with `-optimize`, `-progressive`, `-restart 1` or `-scans` of one component each. The PNGs are what
//! `djpeg` decodes, the same for all JPEGs of a subsampling.

use super::*;

const SAMPLINGS: [&str; 8] = ["1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4"];
const SCANS: [&str; 5] =
    ["baseline", "progressive", "separate", "separate_progressive", "restarts"];

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/jpeg");
    fs::read(folder.join(name)).unwrap()
}

/// The values of the central pixels that a network sees.
fn values(name: &str) -> Result<Vec<f32>, DataError> {
    let sandbox = Sandbox::new();
    for part in ["train", "val"] {
        sandbox.write(&format!("{part}/a/1.jpg"), &fixture(name));
    }
    let check = data::check_folder("pets".as_ref(), sandbox.root(), &Quiet)?;
    match check.problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(values_and_labels(&sandbox.open(25)?).0.remove(0)),
    }
}

#[test]
fn all_subsamplings_and_scans_decode_as_libjpeg_does() {
    for sampling in SAMPLINGS {
        let expected = values(&format!("{sampling}.png")).unwrap();
        for scans in SCANS {
            let name = format!("{sampling}-{scans}.jpg");
            let found = values(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
            let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            let largest = differences.fold(0.0, f32::max);
            assert!(largest < 5.0, "{name}: {largest}");
        }
    }
}

#[test]
fn an_incomplete_jpeg_with_an_end_is_damaged() {
    for sampling in SAMPLINGS {
        for scans in SCANS {
            let whole = fixture(&format!("{sampling}-{scans}.jpg"));
            let sandbox = Sandbox::new();
            sandbox.write("val/a/whole.jpg", &whole);
            let cuts: Vec<_> = (1..20).map(|twentieth| whole.len() * twentieth / 20).collect();
            for cut in &cuts {
                let closed = [&whole[..*cut], b"\xff\xd9"].concat();
                sandbox.write(&format!("train/a/{cut}.jpg"), &closed);
            }
            let check = data::check_folder("pets".as_ref(), sandbox.root(), &Quiet).unwrap();
            assert_eq!(check.problems.len(), cuts.len(), "{sampling} {scans}");
            let damaged = |problem: &DataError| matches!(problem, DataError::Damaged { .. });
            assert!(check.problems.iter().all(damaged), "{:?}", check.problems);
        }
    }
}

#[test]
fn unsupported_jpegs_are_named() {
    for (name, reason) in [("mixed.jpg", "scans of some components"), ("3x1.jpg", "subsampling")] {
        let error = values(name).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("convert it"), "{error}");
    }
}
