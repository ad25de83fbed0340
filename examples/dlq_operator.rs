//! An operator's story: a bad release and a bad customer fill the quarantine; it is counted by cause,
//! looked into, mended, tried with ten, and sent back in order.
//!
//! `cargo run --example dlq_operator --features sqlite,dlq`
//!
//! With a queue on a Redis server between the outbox and the warehouse, and the quarantine there, all
//! arrive, too, but not in order: what is tried again goes to the end of a stream.
//!
//! `cargo run --example dlq_operator --features sqlite,redis,dlq -- --redis redis://localhost`
#![allow(clippy::print_stdout, reason = "a program talks")]

mod shop;

use std::collections::HashMap;

use clap::Parser;
use outbox::dlq::{
    CountRequest, DeadLetter, Filter, Fingerprint, Operator, Origin, Page, RedriveConfig,
};
use outbox::env::{EnvConfig, Secret};
use outbox::message::Message;
use outbox::signal::Shutdown;

use shop::{Outcome, Shop};

/// Tells how an operator deals with dead letters.
#[derive(Parser)]
struct Cli {
    /// A Redis server that a queue to the warehouse is on, as redis://localhost [default: orders go
    /// there straight from the outbox]
    #[arg(
        long,
        value_name = "URL",
        env = "OUTBOX_REDIS_URL",
        hide_env_values = true
    )]
    redis: Option<String>,
}

/// The shop, and who looks after it.
struct Story {
    shop: Shop,
    operator: Operator,
}

impl Story {
    async fn count(&self) -> Outcome<Vec<Fingerprint>> {
        let request = CountRequest {
            filter: Filter::default(),
            max: 10,
        };
        let counts = self.shop.quarantine.count(&request).await?;
        println!("in quarantine: {}", counts.total);
        for group in &counts.groups {
            let kind = group.kind.as_deref().unwrap_or("unreadable");
            println!(
                "  {:>3} x {} of kind {kind}",
                group.letters, group.error_kind
            );
        }
        let groups = counts.groups.iter();
        Ok(groups.map(|group| group.fingerprint).collect())
    }

    async fn look(&self, filter: &Filter) -> Outcome<()> {
        let listing = self.shop.quarantine.list(filter, Page::first(1)).await?;
        let letter = listing.letters.first().ok_or("a letter")?;
        let error = letter.error.rsplit(": ").next().unwrap_or_default();
        println!("from {}, last error: {error}", place(letter));
        Ok(())
    }

    /// Sends back what `filter` means, and waits until it is there.
    async fn redrive(&self, filter: &Filter, config: &RedriveConfig) -> Outcome<()> {
        let shutdown = Shutdown::new();
        let summary = self.operator.redrive(filter, config, &shutdown).await?;
        self.shop.deliver().await?;
        let delivered = self.shop.warehouse.received().len();
        println!("redriven: {}, delivered: {delivered}", summary.redriven);
        Ok(())
    }

    async fn audit(&self) -> Outcome<()> {
        for record in self.shop.quarantine.audit(0, 10).await? {
            let (word, reason) = (record.kind.word(), &record.action.reason);
            println!("{} {word}: {} ({reason})", record.action.by, record.letters);
        }
        Ok(())
    }

    async fn tell(&self) -> Outcome<()> {
        self.shop.order(&shop::orders()).await?;

        println!("-- the warehouse is away for a while, then back, with a bug");
        self.shop.deliver().await?;
        println!("delivered: {}", self.shop.warehouse.received().len());

        println!("-- quarantine by cause");
        let causes = self.count().await?;

        println!("-- a look at one of the greatest group");
        let bulk = Filter::alike(*causes.first().ok_or("a group")?);
        self.look(&bulk).await?;

        println!("-- the bug is mended; ten go first");
        self.shop.warehouse.mend();
        let canary = RedriveConfig {
            most: Some(10),
            reason: "canary".to_owned(),
            ..RedriveConfig::default()
        };
        self.redrive(&bulk, &canary).await?;

        println!("-- none came back; the rest follows, 500 a second");
        let rest = RedriveConfig {
            rate: Some(500),
            reason: "pallets are mended".to_owned(),
            ..RedriveConfig::default()
        };
        self.redrive(&bulk, &rest).await?;

        println!("-- the gifts are hopeless");
        let all = Filter::default();
        let discarded = self.operator.discard(&all, "unknown customer").await?;
        println!("discarded: {discarded}");
        self.count().await?;

        println!("-- what the audit says");
        self.audit().await?;
        check(&self.shop.warehouse.received(), self.shop.keeps_order)
    }
}

/// What a dead letter was taken out of.
fn place(letter: &DeadLetter) -> &'static str {
    match letter.origin {
        Origin::Outbox => "outbox",
        Origin::Queue(_) => "queue",
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut env = EnvConfig::from_system()?;
    env.redis_url = Cli::parse().redis.map(Secret::new);
    let folder = tempfile::tempdir()?;
    let shop = Shop::open(folder.path(), &env).await?;
    let operator = Operator::new(shop.quarantine.clone(), "ada");
    Story { shop, operator }.tell().await
}

/// Every bulk order arrived, once; where `in_order`, those of a customer in their order.
fn check(received: &[Message], in_order: bool) -> Outcome<()> {
    let mut arrived: HashMap<&str, Vec<u64>> = HashMap::new();
    let is_bulk = |message: &&Message| message.kind.name == "order.bulk";
    for message in received.iter().filter(is_bulk) {
        let key = message.ordering_key.as_deref().unwrap_or_default();
        arrived.entry(key).or_default().push(message.sequence.0);
    }
    let mut count = 0;
    for (customer, mut orders) in arrived {
        if !in_order {
            orders.sort_unstable();
        }
        if !orders.is_sorted_by(|one, next| one < next) {
            return Err(format!("{customer}: {orders:?} is not what was ordered").into());
        }
        count += orders.len();
    }
    let how = if in_order {
        "each customer's in order"
    } else {
        "each once"
    };
    println!("-- {count} bulk orders arrived, {how}");
    Ok(())
}
