//! The task: fetch the weather at one place.

use outbox::delivery::Delivery;
use outbox::message::{Headers, MessageBody, NewMessage};
use outbox::{HandlerError, OutboxError};
use serde::{Deserialize, Serialize};

use super::cities::City;

/// Asks for the weather of one city.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OwmIngestionTask {
    /// `<run>/<city id>`: the same city in the same run is the same task, whoever generates it.
    pub(crate) task_id: String,
    pub(crate) city_id: i64,
    pub(crate) latitude_deg: f64,
    pub(crate) longitude_deg: f64,
}

impl MessageBody for OwmIngestionTask {
    const KIND: &'static str = "owm.ingestion-task";
}

/// Numbers that describe no place.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum InvalidTask {
    #[error("city id {0} is not positive")]
    CityId(i64),
    #[error("latitude {0} is not from -90 to 90 degrees")]
    Latitude(f64),
    #[error("longitude {0} is not from -180 to 180 degrees")]
    Longitude(f64),
}

impl OwmIngestionTask {
    /// The task of `city` in the run called `run`.
    pub(crate) fn new(run: &str, city: &City) -> Result<Self, InvalidTask> {
        let task = Self {
            task_id: format!("{run}/{}", city.id),
            city_id: city.id,
            latitude_deg: city.latitude_deg,
            longitude_deg: city.longitude_deg,
        };
        task.validate().map(|()| task)
    }

    /// The task that a worker was handed. What arrives is checked like what is sent: nobody knows
    /// who else writes to the queue.
    pub(crate) fn read(delivery: &Delivery) -> Result<Self, HandlerError> {
        let task: Self = delivery.json().map_err(HandlerError::reject)?;
        task.validate().map_err(HandlerError::reject)?;
        Ok(task)
    }

    // Not a number is in no range, so that it is refused, too.
    fn validate(&self) -> Result<(), InvalidTask> {
        if self.city_id <= 0 {
            return Err(InvalidTask::CityId(self.city_id));
        }
        if !(-90.0..=90.0).contains(&self.latitude_deg) {
            return Err(InvalidTask::Latitude(self.latitude_deg));
        }
        if !(-180.0..=180.0).contains(&self.longitude_deg) {
            return Err(InvalidTask::Longitude(self.longitude_deg));
        }
        Ok(())
    }

    /// The message that carries the task. Its idempotency key makes generating the same task again,
    /// after a crash, add nothing.
    pub(crate) fn message(&self, stream: &str, run: &str) -> Result<NewMessage, OutboxError> {
        let message = NewMessage::json(stream, self)?
            .idempotency_key(&self.task_id)
            .header(Headers::CORRELATION_ID, run);
        Ok(message)
    }
}
