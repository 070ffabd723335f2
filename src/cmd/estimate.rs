//! How long the runs that are left will take, by those that are done.

/// What has been done: methods and their seconds.
#[derive(Debug, Default)]
pub struct Estimate(Vec<(String, f64)>);

impl Estimate {
    /// A run came to its end.
    pub fn done(&mut self, method: &str, seconds: f64) {
        self.0.push((method.to_owned(), seconds));
    }

    /// Seconds for runs of these methods: of each the mean so far, and the mean of all for one that
    /// has not been run yet. `None` before the first run.
    pub fn left<'m>(&self, methods: impl Iterator<Item = &'m str>) -> Option<f64> {
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
    fn a_method_is_estimated_by_its_own_runs_or_by_all() {
        let mut estimate = Estimate::default();
        let left = |estimate: &Estimate, methods: &[&str]| estimate.left(methods.iter().copied());
        assert_eq!(left(&estimate, &["random"]), None);
        estimate.done("random", 1.0);
        estimate.done("random", 3.0);
        estimate.done("darts", 20.0);
        assert_eq!(left(&estimate, &["random", "darts"]), Some(22.0));
        assert_eq!(left(&estimate, &["rs_ws"]), Some(8.0));
        assert_eq!(left(&estimate, &[]), Some(0.0));
    }
}
