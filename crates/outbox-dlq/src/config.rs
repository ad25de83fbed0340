use std::time::Duration;

use outbox_core::error::{ConfigError, Result};

use crate::quarantine::Attempts;

/// How a [`crate::DlqProcessor`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DlqProcessorConfig {
    /// How many failures put a message into quarantine; 5 by default, at least 1.
    #[doc(alias = "failure_threshold")]
    pub threshold: u32,
    /// What has been failing for longer than this goes to quarantine whatever its count; never where
    /// `None`, the default.
    pub max_age: Option<Duration>,
    /// How often the heap is looked at without a wake-up; 10 s by default, at least 1 ms.
    #[doc(alias = "drain_interval")]
    pub interval: Duration,
    /// The most messages that are moved at once; 1,000 by default, 1 to 10,000. A backend may divide
    /// them into several transactions.
    pub batch: usize,
    /// How long drained entries stay claimed while they are being moved; 30 s by default, at least
    /// 1 s. After a crash they come back when it is over.
    pub lease: Duration,
    /// How long to wait before those are looked at again that were being delivered; 1 s by default, at
    /// least 1 ms.
    pub in_flight_pause: Duration,
    /// Counts of messages that have not failed for so long are forgotten; 7 days by default, at least
    /// 1 h.
    pub forget_after: Duration,
}

impl Default for DlqProcessorConfig {
    fn default() -> Self {
        Self {
            threshold: 5,
            max_age: None,
            interval: Duration::from_secs(10),
            batch: 1_000,
            lease: Duration::from_secs(30),
            in_flight_pause: Duration::from_secs(1),
            forget_after: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

impl DlqProcessorConfig {
    /// Every setting that is out of its range.
    pub(crate) fn validate(&self) -> Result<()> {
        let mut errors = ConfigError::default();
        if self.threshold == 0 {
            errors.add("threshold", "is 0, but at least 1 is needed");
        }
        if !(1..=10_000).contains(&self.batch) {
            errors.add(
                "batch",
                format!("is {}, but 1 to 10,000 is needed", self.batch),
            );
        }
        let least = [
            ("interval", self.interval, Duration::from_millis(1)),
            ("lease", self.lease, Duration::from_secs(1)),
            (
                "in_flight_pause",
                self.in_flight_pause,
                Duration::from_millis(1),
            ),
            (
                "forget_after",
                self.forget_after,
                Duration::from_secs(3_600),
            ),
        ];
        for (name, value, least) in least {
            if value < least {
                errors.add(
                    name,
                    format!("is {value:?}, but at least {least:?} is needed"),
                );
            }
        }
        errors.into_result()?;
        Ok(())
    }
}

/// How dead letters are sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveConfig {
    /// The most messages a second; as fast as the store takes them where `None`, the default. At
    /// least 1.
    pub rate: Option<u32>,
    /// The most messages at all: 10 for a canary; no limit where `None`, the default.
    pub most: Option<u64>,
    /// What becomes of their attempts: they begin anew, by default.
    pub attempts: Attempts,
    /// One that was redriven so often already is refused; 3 by default. `None` forces all.
    pub max_redrives: Option<u32>,
    /// Whether nothing is to be changed, but told what would be, were there room for all; false by
    /// default.
    pub dry_run: bool,
    /// The most messages in one transaction; 200 by default, at least 1.
    pub batch: usize,
    /// Why, for the audit; empty by default.
    pub reason: String,
}

impl Default for RedriveConfig {
    fn default() -> Self {
        Self {
            rate: None,
            most: None,
            attempts: Attempts::Reset,
            max_redrives: Some(3),
            dry_run: false,
            batch: 200,
            reason: String::new(),
        }
    }
}

impl RedriveConfig {
    /// Every setting that is out of its range.
    pub(crate) fn validate(&self) -> Result<()> {
        let mut errors = ConfigError::default();
        if self.rate == Some(0) {
            errors.add("rate", "is 0, but at least 1 a second is needed");
        }
        if self.batch == 0 {
            errors.add("batch", "is 0, but at least 1 is needed");
        }
        errors.into_result()?;
        Ok(())
    }

    /// How many to send in one step, so that a rate is kept evenly: ten steps a second.
    pub(crate) fn step(&self, left: Option<u64>) -> usize {
        let even = self
            .rate
            .map_or(usize::MAX, |rate| (rate / 10).max(1) as usize);
        let left = left.map_or(usize::MAX, |left| {
            usize::try_from(left).unwrap_or(usize::MAX)
        });
        self.batch.min(even).min(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_out_of_range_is_named() {
        let config = DlqProcessorConfig {
            threshold: 0,
            batch: 0,
            interval: Duration::ZERO,
            lease: Duration::ZERO,
            in_flight_pause: Duration::ZERO,
            forget_after: Duration::ZERO,
            max_age: None,
        };
        let told = config.validate().unwrap_err().to_string();
        for name in [
            "threshold",
            "batch",
            "interval",
            "lease",
            "in_flight_pause",
            "forget_after",
        ] {
            assert!(told.contains(name), "{told}");
        }
        assert!(DlqProcessorConfig::default().validate().is_ok());
        let nothing = RedriveConfig {
            rate: Some(0),
            batch: 0,
            ..RedriveConfig::default()
        };
        let told = nothing.validate().unwrap_err().to_string();
        assert!(told.contains("rate") && told.contains("batch"), "{told}");
    }

    #[test]
    fn a_rate_is_kept_in_ten_steps_a_second() {
        let config = |rate| RedriveConfig {
            rate,
            ..RedriveConfig::default()
        };
        assert_eq!(config(None).step(None), 200);
        assert_eq!(config(Some(50)).step(None), 5);
        assert_eq!(config(Some(3)).step(None), 1);
        assert_eq!(config(Some(1_000_000)).step(Some(7)), 7);
    }
}
