//! The search loss: cross-entropy and expected cost as one number.

use crate::recipe::LossForm;

/// The loss and its derivatives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossGradient {
    pub value: f64,
    /// d value / d cross-entropy.
    pub by_cross_entropy: f64,
    /// d value / d cost, the cost counted in its unit.
    pub by_cost: f64,
}

/// The loss for a cross-entropy in nats and a cost in its unit. The logarithm is taken of at least e:
/// below, its power has an unbounded derivative or no real value.
#[must_use]
pub fn loss_gradient(form: LossForm, cross_entropy: f64, cost: f64) -> LossGradient {
    match form {
        LossForm::LogPower { a, b } => {
            let inside = cost > std::f64::consts::E;
            let log = cost.max(std::f64::consts::E).ln();
            let factor = a * log.powf(b);
            let by_log = cross_entropy * a * b * log.powf(b - 1.0);
            LossGradient {
                value: cross_entropy * factor,
                by_cross_entropy: factor,
                by_cost: if inside { by_log / cost } else { 0.0 },
            }
        }
        LossForm::Linear { lambda } => LossGradient {
            value: cross_entropy + lambda * cost,
            by_cross_entropy: 1.0,
            by_cost: lambda,
        },
        LossForm::Hinge { lambda, target } => LossGradient {
            value: cross_entropy + lambda * (cost / target - 1.0).max(0.0),
            by_cross_entropy: 1.0,
            by_cost: if cost > target { lambda / target } else { 0.0 },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_equals_finite_differences() {
        let h = 1e-6;
        let forms = [
            LossForm::LogPower { a: 0.2, b: 0.6 },
            LossForm::Linear { lambda: 0.3 },
            LossForm::Hinge { lambda: 0.7, target: 20.0 },
        ];
        for form in forms {
            for (ce, cost) in [(2.3, 4.0), (0.7, 45.0)] {
                let at = |ce, cost| loss_gradient(form, ce, cost).value;
                let s = loss_gradient(form, ce, cost);
                let by_ce = (at(ce + h, cost) - at(ce - h, cost)) / (2.0 * h);
                let by_cost = (at(ce, cost + h) - at(ce, cost - h)) / (2.0 * h);
                assert!((s.by_cross_entropy - by_ce).abs() < 1e-8, "{form:?}");
                assert!((s.by_cost - by_cost).abs() < 1e-8, "{form:?}");
            }
        }
    }

    #[test]
    fn a_hinge_acts_only_above_its_target() {
        let form = LossForm::Hinge { lambda: 0.5, target: 4.0 };
        let [below, above] = [3.0, 6.0].map(|cost| loss_gradient(form, 1.25, cost));
        assert_eq!((below.value, below.by_cost), (1.25, 0.0));
        assert_eq!((above.value, above.by_cost), (1.5, 0.125));
    }

    #[test]
    fn a_cost_below_e_units_has_no_gradient() {
        let s = loss_gradient(LossForm::LogPower { a: 0.2, b: 0.6 }, 2.0, 0.5);
        assert!(s.value.is_finite() && s.value > 0.0);
        assert_eq!(s.by_cost, 0.0);
    }
}
