//! How long the remaining runs will take, estimated from those that are done.

/// The methods and seconds of the runs that are done.
#[derive(Debug, Default)]
pub struct Estimate(Vec<(String, f64)>);

impl Estimate {
    /// Adds a run.
    pub fn add(&mut self, method: &str, seconds: f64) {
        self.0.push((method.to_owned(), seconds));
    }

    /// Seconds for runs of these methods: the mean of the method so far, or the mean of all runs for
    /// a method that has not been run. `None` before the first run.
    pub fn remaining<'m>(&self, methods: impl Iterator<Item = &'m str>) -> Option<f64> {
        let all = mean(self.0.iter())?;
        let of = |name: &str| mean(self.0.iter().filter(|(method, _)| *method == name));
        Some(methods.map(|method| of(method).unwrap_or(all)).sum())
    }
}

fn mean<'a>(runs: impl Iterator<Item = &'a (String, f64)>) -> Option<f64> {
    let (sum, n) = runs.fold((0.0, 0), |(sum, n), (_, seconds)| (sum + seconds, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_method_is_estimated_from_all_runs() {
        let mut estimate = Estimate::default();
        let remaining =
            |estimate: &Estimate, methods: &[&str]| estimate.remaining(methods.iter().copied());
        assert_eq!(remaining(&estimate, &["random"]), None);
        estimate.add("random", 1.0);
        estimate.add("random", 3.0);
        estimate.add("darts", 20.0);
        assert_eq!(remaining(&estimate, &["random", "darts"]), Some(22.0));
        assert_eq!(remaining(&estimate, &["rs_ws"]), Some(8.0));
        assert_eq!(remaining(&estimate, &[]), Some(0.0));
    }
}
