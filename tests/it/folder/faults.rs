//! Errors of folders and files, with their messages.

use super::*;

#[test]
fn an_incomplete_photo_is_damaged() {
    let mut noise = Seed(1).stream("photo", 0);
    let pixels: Vec<u8> = (0..64 * 64 * 3).map(|_| noise.bits() as u8).collect();
    for progressive in [false, true] {
        let whole = jpeg((64, 64), JpegKind::Rgb, &pixels, progressive);
        for share in 1..20 {
            let sandbox = Sandbox::new();
            sandbox.write("train/a/short.jpg", &whole[..whole.len() * share / 20]);
            sandbox.write("val/a/whole.jpg", &whole);
            let data = sandbox.open(8).unwrap();
            let loader = Loader::evaluation(&data, &data.train, vec![0], 1);
            let error = loader.epoch(0).next().unwrap().unwrap_err().to_string();
            assert!(error.contains("train/a/short.jpg") && error.contains("damaged"), "{error}");
        }
    }
}

#[test]
fn folder_errors_say_what_to_do() {
    let whole = png((2, 2), ColorType::Grayscale, BitDepth::Eight, &[1, 2, 3, 4]);
    let mut out = String::new();
    let mut case = |what: &str, files: &[(&str, &[u8])], folders: &[&str]| {
        let sandbox = Sandbox::new();
        for (name, bytes) in files {
            sandbox.write(name, bytes);
        }
        for name in folders {
            fs::create_dir_all(sandbox.path(name)).unwrap();
        }
        let message = match sandbox.open(8) {
            Err(error) => error.to_string(),
            Ok(data) => {
                let loader = Loader::evaluation(&data, &data.train, vec![0], 1);
                loader.epoch(0).next().unwrap().unwrap_err().to_string()
            }
        };
        let message = sandbox.redact(message.lines().next().unwrap());
        writeln!(out, "## {what}\n{message}\n").unwrap();
    };
    let good = ("train/a/1.png", &whole[..]);
    case("no folder", &[], &[]);
    case("no val", &[good], &[]);
    case("no classes", &[("train/1.png", &whole)], &["val/a"]);
    case("val without classes", &[good, ("val/1.png", &whole)], &[]);
    case("a class without images", &[good, ("val/a/1.png", &whole)], &["train/b", "val/b"]);
    case("images in a deeper folder", &[("train/a/images/1.png", &whole)], &["val/a"]);
    case(
        "a class that val lacks",
        &[good, ("train/b/1.png", &whole), ("val/a/1.png", &whole)],
        &[],
    );
    let many = ["val/b", "val/c", "val/d", "val/e"];
    case("classes that train lacks", &[good, ("val/a/1.png", &whole)], &many);
    case("other classes", &[good, ("val/b/1.png", &whole)], &[]);
    let val = ("val/a/1.png", &whole[..]);
    case("an empty file", &[("train/a/1.png", b""), val], &[]);
    case("no image", &[("train/a/1.jpg", b"<html></html>"), val], &[]);
    case("a damaged PNG", &[("train/a/1.png", &whole[..40]), val], &[]);
    case("a damaged JPEG", &[("train/a/1.jpg", b"\xff\xd8\xff\xe0rest"), val], &[]);
    insta::assert_snapshot!("folder", out);
}

#[test]
fn data_check_decodes_all_images() {
    let sandbox = Sandbox::of_pets(2, 1);
    let said = |code: i32, arguments: &[&str]| {
        let output = sandbox.repro(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let both = [output.stdout, output.stderr].concat();
        sandbox.redact(&String::from_utf8(both).unwrap())
    };
    assert!(said(0, &["data", "check", "pets"]).contains("all 9 images can be used"));
    sandbox.write("val/dog/broken.jpg", b"nothing");
    let broken = said(1, &["data", "check", "pets"]);
    assert!(broken.contains("pets/val/dog/broken.jpg: is not a JPEG, PNG"), "{broken}");
    assert!(broken.contains("1 of 10 images cannot be used"), "{broken}");
    assert!(said(0, &["data", "list"]).contains("local   pets"), "the folder is listed");
    assert!(said(1, &["data", "fetch", "image-folder"]).contains("NAME/train/CLASS/*.jpg"));
}

/// The header of a PNG of this side, and no image.
fn oversized_png(side: u32) -> Vec<u8> {
    let mut file = png((1, 1), ColorType::Grayscale, BitDepth::Eight, &[0]);
    // Behind the signature, a length and a name lie width and height, later their checksum.
    file[16..20].copy_from_slice(&side.to_be_bytes());
    file[20..24].copy_from_slice(&side.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&file[12..29]);
    file[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    file
}

#[test]
fn a_png_with_too_many_pixels_is_named() {
    let sandbox = Sandbox::of_pets(2, 1);
    sandbox.write("train/cat/lie.png", &oversized_png(100_000));
    let output = sandbox.repro(&["data", "check", "pets"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("lie.png: its header says 100000x100000 pixels"), "{said}");
    assert!(said.contains("no more than 100000000 are read"), "{said}");
}

#[test]
#[cfg(unix)]
fn special_files_are_named() {
    let sandbox = Sandbox::of_pets(2, 1);
    let fifo = sandbox.path("train/cat/pipe.jpg");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", sandbox.path("val/cat/zero.png")).unwrap();
    let check = data::check_folder("pets".as_ref(), sandbox.root(), &Quiet).unwrap();
    let problems: Vec<String> = check.problems.iter().map(ToString::to_string).collect();
    assert_eq!((check.images, problems.len()), (11, 2), "{problems:?}");
    assert!(problems[0].contains("pipe.jpg: is not a regular file"), "{problems:?}");
    assert!(problems[1].contains("zero.png: is not a regular file"), "{problems:?}");
}

#[test]
fn other_files_are_counted_by_kind() {
    let sandbox = Sandbox::of_pets(2, 1);
    for name in ["a.txt", "b.txt", "c.xml", "README", ".hidden"] {
        sandbox.write(&format!("train/cat/{name}"), b"text");
    }
    sandbox.write("val/dog/deeper/1.png", b"an image in a folder of its own");
    let output = sandbox.repro(&["data", "check", "pets"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = "5 other files left out (1 folder, 2 txt, 1 without ending, 1 xml)";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn different_folders_have_different_fingerprints() {
    let sandbox = Sandbox::of_pets(3, 1);
    let fingerprint = || sandbox.open(8).unwrap().fingerprint();
    let before = fingerprint();
    assert_eq!(before, fingerprint());
    let other = sandbox.path("val/cat/other.png");
    fs::rename(sandbox.path("val/cat/000.png"), &other).unwrap();
    let renamed = fingerprint();
    let mut bytes = fs::read(&other).unwrap();
    bytes.push(0);
    fs::write(&other, bytes).unwrap();
    let grown = fingerprint();
    fs::rename(&other, sandbox.path("train/cat/other.png")).unwrap();
    fs::rename(sandbox.path("train/cat/000.png"), sandbox.path("val/cat/000.png")).unwrap();
    let all = std::collections::BTreeSet::from([before, renamed, grown, fingerprint()]);
    assert_eq!(all.len(), 4);
}

/// Replaced pixels leave the size of an uncompressed file as it is.
#[test]
fn the_fingerprint_covers_both_ends_of_files() {
    let sandbox = Sandbox::of_pets(1, 1);
    let mut file = b"P5 100 100 255\n".to_vec();
    file.extend([100; 100 * 100]);
    let length = file.len();
    let mut fingerprints = std::collections::BTreeSet::new();
    for changed in [None, Some(20), Some(4095), Some(length - 4096), Some(length - 1)] {
        let mut file = file.clone();
        if let Some(at) = changed {
            file[at] = 0;
        }
        sandbox.write("train/cat/a.pgm", &file);
        fingerprints.insert(sandbox.open(8).unwrap().fingerprint());
    }
    assert_eq!(fingerprints.len(), 5);
}

#[test]
#[cfg(unix)]
fn the_fingerprint_tells_names_with_line_ends_apart() {
    let fingerprint = |class: &str, name: &str| {
        let sandbox = Sandbox::new();
        sandbox.write(&format!("train/{class}/{name}"), b"");
        sandbox.write(&format!("val/{class}/1.png"), b"");
        sandbox.open(8).unwrap().fingerprint()
    };
    assert_ne!(fingerprint("a", "b\nc.png"), fingerprint("a\nb", "c.png"));
}
