//! The writing connections of a store, and whose turn it is to use them.

use sqlx::sqlite::SqliteConnection;
use tokio::sync::OwnedMutexGuard;

use crate::connect::{Role, connect, set_synchronous, synchronous};
use crate::error::Fault;
use crate::options::{SqliteOptions, Synchronous};
use crate::pace::Stint;

/// The right to write, within this process.
pub(crate) type Turn = OwnedMutexGuard<Writers>;

/// The idle writing connections; one that was not given back in good order is made anew.
#[derive(Default)]
pub(crate) struct Writers {
    durable: Option<Idle>,
    swift: Option<Idle>,
}

/// A connection that is not in use, and how long its commits wait for the disk.
struct Idle {
    connection: SqliteConnection,
    synchronous: Synchronous,
}

impl Idle {
    /// A new connection for the place of `role`, with all that the most durable of its writers needs.
    async fn connect(options: &SqliteOptions, role: Role) -> Result<Self, Fault> {
        let role = match role {
            Role::Bulk => Role::Durable,
            other => other,
        };
        Ok(Self {
            connection: connect(options, role).await?,
            synchronous: synchronous(options, role),
        })
    }
}

impl Writers {
    /// Those of a store that has just made its durable connection.
    pub(super) fn of(durable: SqliteConnection, options: &SqliteOptions) -> Self {
        Self {
            durable: Some(Idle {
                connection: durable,
                synchronous: options.synchronous,
            }),
            swift: None,
        }
    }

    fn place(&mut self, role: Role) -> &mut Option<Idle> {
        match role {
            Role::Durable | Role::Bulk => &mut self.durable,
            Role::Swift | Role::Reader => &mut self.swift,
        }
    }
}

/// The right to write, and the connection to do it on.
///
/// Where it is dropped without [`Writer::finish`], by an error or because its caller was dropped,
/// nobody knows what the connection is in the middle of: it is closed, which rolls back, and the
/// next writer opens a new one.
pub(crate) struct Writer {
    // Closed before the turn passes on: fields are dropped in this order.
    connection: SqliteConnection,
    role: Role,
    synchronous: Synchronous,
    turn: Turn,
    /// Of background work, which rests when it is over.
    pub(super) stint: Option<Stint>,
}

impl Writer {
    /// A writer of `role`, whose turn it is.
    pub(super) async fn in_turn(
        mut turn: Turn,
        role: Role,
        options: &SqliteOptions,
    ) -> Result<Self, Fault> {
        let Idle {
            mut connection,
            synchronous: found,
        } = match turn.place(role).take() {
            Some(idle) => idle,
            None => Idle::connect(options, role).await?,
        };
        let wanted = synchronous(options, role);
        if found != wanted {
            set_synchronous(&mut connection, wanted).await?;
        }
        Ok(Self {
            connection,
            role,
            synchronous: wanted,
            turn,
            stint: None,
        })
    }

    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Gives the connection back; it is in no transaction.
    pub(crate) fn finish(mut self) {
        *self.turn.place(self.role) = Some(Idle {
            connection: self.connection,
            synchronous: self.synchronous,
        });
    }

    /// Begins a transaction that holds the write lock from the start.
    pub(crate) async fn begin(&mut self) -> Result<(), Fault> {
        self.execute("BEGIN IMMEDIATE").await
    }

    /// Commits the transaction.
    pub(crate) async fn commit(&mut self) -> Result<(), Fault> {
        self.execute("COMMIT").await
    }

    /// Rolls the transaction back.
    pub(crate) async fn rollback(&mut self) -> Result<(), Fault> {
        self.execute("ROLLBACK").await
    }

    async fn execute(&mut self, sql: &'static str) -> Result<(), Fault> {
        sqlx::query(sql).execute(&mut self.connection).await?;
        Ok(())
    }
}
