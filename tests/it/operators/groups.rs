//! Grouped 1x1 convolutions as dense ones, and products.

use crate::numbers::{assert_refused, random, tensor, values};
use repro::ops::groups::{GroupOrder, Groups, backward, dense};
use repro::ops::scale;

#[test]
fn grouped_weights_are_dense_ones_with_zeros() {
    // More inputs and outputs than a block of a GPU takes at once.
    for (inputs, outputs, number) in [(1, 1, 1), (6, 4, 2), (9, 33, 3), (70, 66, 2), (1032, 8, 4)] {
        for order in [GroupOrder::Plain, GroupOrder::Shuffled] {
            let (each, width) = (inputs / number, outputs / number);
            let w = random("w", each * outputs);
            // The input at this place of the shuffled channels.
            let input = |place: usize| match order {
                GroupOrder::Plain => place,
                GroupOrder::Shuffled => place % number * each + place / number,
            };
            let mut expected = vec![0.0; inputs * outputs];
            for o in 0..outputs {
                for i in 0..each {
                    expected[input(o / width * each + i) * outputs + o] = w[i * outputs + o];
                }
            }
            let groups = Groups { number, order };
            let found = dense(&tensor(&w, &[each, outputs]), groups).unwrap();
            assert_eq!(found.dims(), [inputs, outputs]);
            assert_eq!(values(&found), expected, "{groups:?}");
            // The entries of w, and none of the others.
            let d = random("d", inputs * outputs);
            let back = backward(&tensor(&d, &[inputs, outputs]), groups).unwrap();
            let mut expected = vec![0.0; each * outputs];
            for o in 0..outputs {
                for i in 0..each {
                    expected[i * outputs + o] = d[input(o / width * each + i) * outputs + o];
                }
            }
            assert_eq!(values(&back), expected, "{groups:?}");
        }
    }
    let groups = Groups { number: 2, order: GroupOrder::Plain };
    let odd = tensor(&[0.0; 6], &[2, 3]);
    assert_refused(dense(&odd, groups).map(drop), &["groups: 4 x 3 channels are not 2 groups"]);
    assert_refused(backward(&tensor(&[0.0; 6], &[3, 2]), groups).map(drop), &["3 x 2"]);
}

#[test]
fn products_are_taken_value_by_value() {
    for shape in [[1, 1], [3, 40], [70, 33]] {
        let count = shape.iter().product();
        let (a, b) = (random("a", count), random("b", count));
        let found = scale::product(&tensor(&a, &shape), &tensor(&b, &shape)).unwrap();
        assert_eq!(found.dims(), shape);
        for ((found, a), b) in values(&found).iter().zip(&a).zip(&b) {
            assert!((found - a * b).abs() <= 1e-6 * (a * b).abs(), "{found} {a} {b}");
        }
    }
    let (a, b) = (tensor(&[0.0; 6], &[2, 3]), tensor(&[0.0; 6], &[3, 2]));
    assert_refused(scale::product(&a, &b).map(drop), &["scale: the second factor"]);
}
