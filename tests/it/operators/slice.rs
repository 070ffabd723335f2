//! The first entries of a tensor along every axis.

use crate::numbers::{assert_refused, random, tensor, values};
use repro::ops::slice::{first, with_first};

/// The positions in a tensor of `all` entries per axis of its first `part` entries, in order.
fn positions(all: &[usize], part: &[usize]) -> Vec<usize> {
    all.iter().zip(part).fold(vec![0], |before, (all, part)| {
        before.iter().flat_map(|at| (0..*part).map(move |i| at * all + i)).collect()
    })
}

#[test]
fn the_first_entries_are_read_and_written_in_place() {
    let shapes: [(&[usize], &[usize]); 6] = [
        (&[7], &[3]),
        (&[5, 40], &[5, 33]),
        (&[9, 35], &[4, 35]),
        (&[9, 5, 40], &[9, 3, 33]),
        (&[9, 5, 40], &[4, 2, 1]),
        (&[2, 70, 3], &[2, 70, 3]),
    ];
    for (all, part) in shapes {
        let numbers = random("whole", all.iter().product());
        let whole = tensor(&numbers, all);
        let at = positions(all, part);
        let expected: Vec<f64> = at.iter().map(|i| numbers[*i]).collect();
        let found = first(&whole, part).unwrap();
        assert_eq!(found.dims(), part);
        assert_eq!(values(&found), expected, "{part:?} of {all:?}");

        let negative: Vec<f64> = expected.iter().map(|v| -v).collect();
        let back = with_first(&whole, &tensor(&negative, part)).unwrap();
        let mut expected = numbers.clone();
        for i in &at {
            expected[*i] *= -1.0;
        }
        assert_eq!(back.dims(), all);
        assert_eq!(values(&back), expected, "{part:?} into {all:?}");
        assert_eq!(values(&whole), numbers);
    }
}

#[test]
fn a_slice_fits_into_its_tensor() {
    let whole = tensor(&random("whole", 12), &[3, 4]);
    let words = ["slice: there is no", "[3, 4]"];
    assert_refused(first(&whole, &[2, 5]).map(drop), &words);
    assert_refused(first(&whole, &[2]).map(drop), &words);
    assert_refused(with_first(&whole, &tensor(&[0.0; 4], &[4, 1])).map(drop), &words);
}
