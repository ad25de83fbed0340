use std::path::Path;
use std::time::Duration;

/// The rows of all work items.
#[derive(Default)]
pub(crate) struct Report(Vec<serde_json::Value>);

/// What a figure is held to.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Nothing: the figure is told, not judged.
    Told,
}

impl Report {
    /// Adds a row about two rates or two times, and prints it.
    pub(crate) fn ratio(
        &mut self,
        id: &str,
        variant: &str,
        (ours, limit): (f64, f64),
        target: Target,
    ) {
        self.row(id, variant, ours, Some(limit), Some(ours / limit), target);
    }

    /// Adds a row about a figure that is held to its target as it is.
    pub(crate) fn absolute(&mut self, id: &str, variant: &str, ours: f64, target: Target) {
        self.row(id, variant, ours, None, None, target);
    }

    #[allow(clippy::too_many_arguments)]
    fn row(
        &mut self,
        id: &str,
        variant: &str,
        ours: f64,
        limit: Option<f64>,
        ratio: Option<f64>,
        target: Target,
    ) {
        let judged = ratio.unwrap_or(ours);
        let (ok, goal) = match target {
            Target::AtLeast(least) => (Some(judged >= least), Some(format!(">= {least}"))),
            Target::AtMost(most) => (Some(judged <= most), Some(format!("<= {most}"))),
            Target::Told => (None, None),
        };
        let text = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
        println!(
            "{id:13} {variant:66} ours {:>11} limit {:>11} ratio {:>6} target {:>9} {}",
            text(Some(ours)),
            text(limit),
            text(ratio),
            goal.as_deref().unwrap_or("-"),
            ok.map_or("", |ok| if ok { "ok" } else { "MISSED" })
        );
        self.0.push(serde_json::json!({
            "id": id, "variant": variant, "ours": ours, "limit": limit, "ratio": ratio,
            "target": goal, "ok": ok,
        }));
    }

    pub(crate) fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(&self.0).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Runs both in turns and answers the median time of each.
pub(crate) fn in_turns(
    rounds: usize,
    mut ours: impl FnMut() -> Duration,
    mut limit: impl FnMut() -> Duration,
) -> (f64, f64) {
    let (mut our_times, mut limit_times) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        limit_times.push(limit().as_secs_f64());
        our_times.push(ours().as_secs_f64());
    }
    (median(&mut our_times), median(&mut limit_times))
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

pub(crate) fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * at).round() as usize]
}
