//! Pickles as Python writes them, damaged ones, and ones made to take much memory.

use super::*;
use crate::fuzz::{Outcome, Reader, leave};

/// As Python 2 writes it: `{"labels": [6, 9], "data": array([[1, 2, 3], [4, 5, 6]])}`.
const OLD: &[u8] = b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x06K\teU\x04dataq\x04cnumpy.core.\
    multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x02K\
    \x03\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\t(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\
    \xff\xff\xff\xffK\x00tb\x89U\x06\x01\x02\x03\x04\x05\x06tbu.";

#[test]
fn labels_and_pixels_are_read() {
    let batch = read_batch(OLD).unwrap();
    assert_eq!(batch.pixels, [1, 2, 3, 4, 5, 6]);
    assert_eq!(batch.labels("labels").unwrap(), [6, 9]);
    assert!(batch.labels("fine_labels").unwrap_err().contains("fine_labels"));
}

#[test]
fn a_pickle_cut_anywhere_is_an_error() {
    for length in 0..OLD.len() {
        assert!(read_batch(&OLD[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_changed_byte_never_panics() {
    for at in 0..OLD.len() {
        for byte in 0..=255 {
            let mut changed = OLD.to_vec();
            changed[at] = byte;
            let _ = read_batch(&changed);
        }
    }
}

#[test]
fn copies_of_copies_take_no_memory() {
    let mut pickle = b"\x80\x02)q\x00".to_vec();
    for _ in 0..20 {
        pickle.extend(b"h\x00h\x00\x86q\x00");
    }
    pickle.push(b'.');
    // Its last level had a million values.
    let value = Machine::new(&pickle).run().unwrap();
    assert!(value.depth() <= 2, "{value:?}");
}

#[test]
fn deep_nesting_is_refused() {
    for nest in [&b"\x85"[..], b"(", b"]"] {
        let mut pickle = b"\x80\x02".to_vec();
        match nest {
            b"\x85" => pickle.extend([b"N", &nest.repeat(900_000)[..]].concat()),
            b"(" => pickle.extend([nest.repeat(400_000), b"t".repeat(400_000)].concat()),
            _ => pickle.extend([nest.repeat(400_000), b"a".repeat(399_999)].concat()),
        }
        pickle.push(b'.');
        let error = Machine::new(&pickle).run().unwrap_err();
        assert!(error.contains("nests deeper"), "{error}");
    }
}

#[test]
fn endless_values_are_refused() {
    let error = read_batch(&[b"\x80\x02", &b"N".repeat(2_000_000)[..]].concat()).unwrap_err();
    assert!(error.contains("more values"), "{error}");
}

#[test]
fn other_functions_are_refused() {
    let error = read_batch(b"\x80\x02cos\nsystem\nU\x04true\x85R.").unwrap_err();
    assert!(error.contains("os.system"), "{error}");
    let error = read_batch(b"\x80\x02\x8c\x02os\x8c\x06system\x93.").unwrap_err();
    assert!(error.contains("os.system"), "{error}");
    assert!(read_batch(b"I1\n.").unwrap_err().contains("not a pickle of protocol 2"));
}

/// As Python 3 writes the same in protocol 4.
const NEW: &[u8] = b"\x80\x04\x95\xa1\0\0\0\0\0\0\0}\x94(C\x06labels\x94]\x94(K\x06K\teC\x04data\x94\
    \x8c\x16numpy._core.multiarray\x94\x8c\x0c_reconstruct\x94\x93\x94\x8c\x05numpy\x94\x8c\x07ndarray\
    \x94\x93\x94K\0\x85\x94C\x01b\x94\x87\x94R\x94(K\x01K\x02K\x03\x86\x94h\x07\x8c\x05dtype\x94\x93\
    \x94\x8c\x02u1\x94K\0K\x01\x87\x94R\x94(K\x03\x8c\x01|\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0\
    t\x94b\x89C\x06\x01\x02\x03\x04\x05\x06\x94t\x94bu.";

#[test]
fn mutated_pickles() {
    let words: [&[u8]; 24] = [
        b"\x80\x02",
        b"(",
        b"t",
        b"]",
        b"}",
        b")",
        b"\x85",
        b"\x86",
        b"\x87",
        b"a",
        b"e",
        b"s",
        b"u",
        b"q\x01",
        b"r\0\0\0\x80",
        b"h\x01",
        b"\x94",
        b"R",
        b"b",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"N",
        b"\x93",
        b"cnumpy\nndarray\n",
        b"c_codecs\nencode\n",
    ];
    Reader {
        test: "data::cifar::pickle::tests::mutated_pickles",
        name: "pickle",
        inputs: vec![OLD.to_vec(), NEW.to_vec()],
        words: &words,
        cases: 150_000,
        mend: leave,
        read: &|bytes| {
            let batch = read_batch(bytes);
            Outcome::of(batch, (1 << 12) + 200 * bytes.len() as u64)
        },
    }
    .check();
}

#[test]
fn the_new_form_is_read() {
    let batch = read_batch(NEW).unwrap();
    assert_eq!(
        (batch.pixels, batch.labels("labels").unwrap()),
        (&[1, 2, 3, 4, 5, 6][..], &[6, 9][..])
    );
}
