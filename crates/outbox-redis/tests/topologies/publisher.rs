//! The publisher, wherever its stream lies and whoever has it.

use outbox_core::lease::{Epoch, Sequence};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::Publisher;
use outbox_redis::{EntryIds, RedisPublisher, RedisPublisherConfig};
use outbox_redis_harness::{RedisCluster, RedisServer};

use super::*;
use crate::sentinel::Group;

const BOTH: [EntryIds; 2] = [EntryIds::Server, EntryIds::Sequence];

fn messages(count: usize) -> Vec<Message> {
    let made = |(place, id): (u64, MessageId)| Message {
        sequence: Sequence(place),
        epoch: Epoch(1),
        ..Message::appended(&NewMessage::new("t", place.to_string()), id, NOW)
    };
    (1..).zip(ids(count)).map(made).collect()
}

fn publisher(store: &RedisStore, name: &str, ids: EntryIds) -> Result<RedisPublisher> {
    let config = RedisPublisherConfig {
        ids,
        ..RedisPublisherConfig::named(name)
    };
    RedisPublisher::new(store, config)
}

/// Publishes until all of it is taken, as a relay would.
async fn publish(publisher: &RedisPublisher, batch: &[Message]) {
    let until = Instant::now() + PATIENCE;
    while let Some(error) = publisher
        .publish(batch)
        .await
        .into_iter()
        .find_map(Result::err)
    {
        assert!(Instant::now() < until, "not taken: {error}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// How many entries the stream has.
async fn length(server: &RedisServer, name: &str) -> Result<i64, BoxError> {
    let key = format!("outbox:{{{name}}}:stream");
    let length = server.wire().await?.command(&["XLEN", &key]).await?;
    Ok(length.number().ok_or("no stream")?)
}

#[tokio::test]
async fn a_stream_on_any_node_has_each_message_once() -> Tested {
    let cluster = RedisCluster::start().await?;
    let store = RedisStore::open_with(options(cluster.url())).await?;
    let messages = messages(700);
    for name in crate::cluster::a_name_for_each_node(&cluster).await? {
        let key = format!("outbox:{{{name}}}:stream");
        let home = &cluster.nodes()[cluster.home_of(&key).await?];
        for ids in BOTH {
            let publisher = publisher(&store, &name, ids)?;
            for _ in 0..2 {
                publish(&publisher, &messages).await;
            }
            assert_eq!(publisher.find_losses().await?, 0);
            assert_eq!(length(home, &name).await?, 700, "{ids:?}");
            home.wire().await?.command(&["FLUSHALL"]).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_a_failover_loses_of_a_stream_is_found_out() -> Tested {
    for ids in BOTH {
        let mut group = Group::start().await?;
        let store = RedisStore::open_with(options(group.url())).await?;
        let publisher = publisher(&store, "watched", ids)?;
        let messages = messages(300);
        publish(&publisher, &messages[..100]).await;
        group.is_synced().await?;
        group.stop_replication().await?;
        publish(&publisher, &messages[100..200]).await;
        group.primary.kill().await?;
        publish(&publisher, &messages[200..]).await;
        assert_eq!(publisher.losses(), 1, "{ids:?}");
        assert_eq!(length(group.replica(), "watched").await?, 200, "{ids:?}");
    }
    Ok(())
}
