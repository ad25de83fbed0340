//! Everything that reads text or bytes from outside answers a value or a typed error, whatever it
//! is given: it never panics.
#![allow(clippy::unwrap_used)]

use outbox_core::OutboxError;
use outbox_core::env::{EnvConfig, VARIABLES};
use outbox_core::id::MessageId;
use outbox_core::message::{Headers, JSON, Limits, Message, MessageBody, NewMessage};
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Body {
    number: u64,
    text: Option<String>,
}

impl MessageBody for Body {
    const KIND: &'static str = "fuzz.body";
}

/// A name of a variable of ours, or of nobody's, or one with a slip in it.
fn variable() -> impl Strategy<Value = String> {
    let known: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    let known = proptest::sample::select(known);
    prop_oneof![
        6 => known.clone().prop_map(str::to_owned),
        1 => (known, any::<char>()).prop_map(|(name, c)| format!("{name}{c}")),
        1 => ".*",
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "[0-9]{1,30}(ms|s|m|h|d|)",
        "(true|false|yes|no|on|off|)",
        ".*",
    ]
}

proptest! {
    #[test]
    fn any_environment_is_a_configuration_or_every_problem_in_it(
        pairs in vec((variable(), value()), 0..20)
    ) {
        match EnvConfig::from_pairs(pairs) {
            Ok(config) => {
                // What was accepted is good for every part, or told as out of its range.
                let _ = (config.relay().validate(), config.producer().validate());
            }
            Err(error) => prop_assert!(!error.problems.is_empty()),
        }
    }

    #[test]
    fn any_payload_is_json_or_a_codec_error(payload in vec(any::<u8>(), 0..300)) {
        let new = NewMessage::new("t", payload.clone()).content_type(JSON);
        let valid = new.validate(&Limits::default());
        let is_json = serde_json::from_slice::<serde_json::Value>(&payload).is_ok();
        prop_assert!(is_json <= valid.is_ok());
        let message = Message::appended(&new, MessageId::from_bytes([1; 16]), Timestamp::EPOCH);
        if let Err(error) = message.json::<Body>() {
            let is_codec = matches!(error, OutboxError::Codec { .. });
            prop_assert!(is_codec);
        }
    }

    #[test]
    fn any_text_is_an_id_or_is_none(text in ".*") {
        if let Ok(id) = text.parse::<MessageId>() {
            prop_assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        }
    }

    #[test]
    fn any_headers_are_read_back_as_they_were_or_told(
        pairs in vec((".{0,40}", ".{0,400}"), 0..80),
        bytes in vec(any::<u8>(), 0..200),
    ) {
        let headers: Headers = pairs.into_iter().collect();
        let text = serde_json::to_vec(&headers).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Headers>(&text).unwrap(), headers.clone());
        let _ = serde_json::from_slice::<Headers>(&bytes);
        let _ = serde_json::from_slice::<Vec<AttemptRecord>>(&bytes);
        let mut message = NewMessage::new("t", "x");
        message.headers = headers;
        if let Err(error) = message.validate(&Limits::default()) {
            let is_limit = matches!(error, OutboxError::Limit { .. });
            prop_assert!(is_limit);
        }
    }

    #[test]
    fn any_moment_can_be_told_and_reckoned_with(micros in any::<i64>(), other in any::<i64>()) {
        let (one, two) = (Timestamp::from_micros(micros), Timestamp::from_micros(other));
        let _ = (one.to_string(), one.as_millis(), one + two.since(one), one - one.since(two));
    }
}
