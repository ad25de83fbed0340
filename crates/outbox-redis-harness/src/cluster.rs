use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::BoxError;
use crate::server::RedisServer;
use crate::wire::Wire;

/// What a server is told to be a node: one whose slots are still there when another one's are not.
const NODE: &[&str] = &[
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "1000",
    "--cluster-require-full-coverage",
    "no",
];

/// How far behind a node's port the one is at which other nodes talk to it.
const BUS: u16 = 10_000;

/// How long nodes may take to agree on who has which slots.
const AGREEMENT_TIME: Duration = Duration::from_secs(30);

/// A cluster of three primaries on this machine, killed when this is dropped.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three nodes that share all slots, and waits until each of them says that all is well.
    ///
    /// # Errors
    /// Where there is no `redis-server` or `redis-cli`, or the nodes do not agree in time.
    pub async fn start() -> Result<Self, BoxError> {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(RedisServer::start(NODE).await?);
        }
        let mut words = vec!["create".to_owned()];
        words.extend(nodes.iter().map(place));
        words.push("--cluster-yes".to_owned());
        tell_cluster(&words).await?;
        let cluster = Self { nodes };
        cluster.agrees().await?;
        Ok(cluster)
    }

    /// Adds a node that takes over when the one at `place` is gone, and waits until it has all of it.
    ///
    /// # Errors
    /// Where the node is not added in time.
    pub async fn add_replica_of(&mut self, place_of_primary: usize) -> Result<(), BoxError> {
        let replica = RedisServer::start(NODE).await?;
        let primary = &self.nodes[place_of_primary];
        let id = told(&mut primary.wire().await?, &["CLUSTER", "MYID"]).await?;
        let words = ["add-node", &place(&replica), &place(primary)];
        let more = ["--cluster-slave", "--cluster-master-id", &id];
        let words: Vec<_> = words.iter().chain(&more).map(ToString::to_string).collect();
        tell_cluster(&words).await?;
        let mut wire = replica.wire().await?;
        self.nodes.push(replica);
        until(async || {
            let info = told(&mut wire, &["INFO", "replication"]).await?;
            Ok(info.contains("master_link_status:up"))
        })
        .await?;
        self.agrees().await
    }

    /// Has the node at `place` tell everybody that it is reached at `port`, as one behind a proxy.
    ///
    /// # Errors
    /// Where the others do not know it in time.
    pub async fn announce(&self, place: usize, port: u16) -> Result<(), BoxError> {
        let node = &self.nodes[place];
        let bus = node.port() + BUS;
        let mut wire = node.wire().await?;
        for (name, port) in [("bus-port", bus), ("port", port)] {
            let name = format!("cluster-announce-{name}");
            told(&mut wire, &["CONFIG", "SET", &name, &port.to_string()]).await?;
        }
        for node in &self.nodes {
            let mut wire = node.wire().await?;
            until(async || {
                let nodes = told(&mut wire, &["CLUSTER", "NODES"]).await?;
                Ok(nodes.contains(&format!(":{port}@")))
            })
            .await?;
        }
        Ok(())
    }

    /// Where it is reached: by one of its nodes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.nodes[0].port())
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Kills the node at `place`, and with it its slots.
    ///
    /// # Errors
    /// Where the process cannot be killed.
    pub async fn kill(&mut self, place: usize) -> Result<(), BoxError> {
        self.nodes[place].kill().await
    }

    /// Starts the node at `place` again, with nothing but its slots, and waits until all agree.
    ///
    /// # Errors
    /// Where it does not come back in time.
    pub async fn restart(&mut self, place: usize) -> Result<(), BoxError> {
        self.nodes[place].restart().await?;
        self.agrees().await
    }

    /// The node that has the slot of `key`, by its place among the nodes.
    ///
    /// # Errors
    /// Where a node is not reached.
    pub async fn home_of(&self, key: &str) -> Result<usize, BoxError> {
        for (place, node) in self.nodes.iter().enumerate() {
            let answer = node.wire().await?.command(&["EXISTS", key]).await?;
            if !answer.is_error("MOVED") {
                return Ok(place);
            }
        }
        Err("no node has the slot".into())
    }

    /// Moves the slot of `key`, with all that is in it, from the node at `from` to the one at `to`.
    ///
    /// # Errors
    /// Where a node is not reached or refuses a step.
    pub async fn move_slot(&self, key: &str, from: usize, to: usize) -> Result<(), BoxError> {
        let mut source = self.nodes[from].wire().await?;
        let mut target = self.nodes[to].wire().await?;
        let source_id = told(&mut source, &["CLUSTER", "MYID"]).await?;
        let target_id = told(&mut target, &["CLUSTER", "MYID"]).await?;
        let slot = source.command(&["CLUSTER", "KEYSLOT", key]).await?;
        let slot = slot.number().ok_or("a slot is a number")?.to_string();
        told(
            &mut target,
            &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id],
        )
        .await?;
        told(
            &mut source,
            &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id],
        )
        .await?;
        let port = self.nodes[to].port().to_string();
        loop {
            let keys = source
                .command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])
                .await?;
            let keys: Vec<_> = keys
                .list()
                .into_iter()
                .filter_map(|key| key.text())
                .collect();
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            told(&mut source, &migrate).await?;
        }
        for node in &self.nodes {
            let mut wire = node.wire().await?;
            told(
                &mut wire,
                &["CLUSTER", "SETSLOT", &slot, "NODE", &target_id],
            )
            .await?;
        }
        Ok(())
    }

    async fn agrees(&self) -> Result<(), BoxError> {
        for node in &self.nodes {
            let mut wire = node.wire().await?;
            until(async || {
                let info = told(&mut wire, &["CLUSTER", "INFO"]).await?;
                Ok(info.contains("cluster_state:ok"))
            })
            .await?;
        }
        Ok(())
    }
}

fn place(node: &RedisServer) -> String {
    format!("127.0.0.1:{}", node.port())
}

/// Runs `redis-cli --cluster` with `words`.
async fn tell_cluster(words: &[String]) -> Result<(), BoxError> {
    let output = Command::new("redis-cli")
        .arg("--cluster")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .await?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stdout);
    Err(format!("redis-cli --cluster {words:?} failed: {told}").into())
}

/// Waits until `agreed` says so.
async fn until(mut agreed: impl AsyncFnMut() -> Result<bool, BoxError>) -> Result<(), BoxError> {
    let end = Instant::now() + AGREEMENT_TIME;
    while !agreed().await? {
        if Instant::now() > end {
            return Err("the nodes do not agree in time".into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The text that a node answers.
async fn told(wire: &mut Wire, words: &[&str]) -> Result<String, BoxError> {
    let answer = wire.command(words).await?;
    let text = answer.text();
    text.ok_or_else(|| format!("{words:?} was answered with an error").into())
}
