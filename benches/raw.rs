use std::path::Path;

use rusqlite::{Connection, params};

/// The limit: one connection, prepared statements, one row a step, the library's own tables.
pub(crate) struct Raw(pub(crate) Connection);

/// One row as the limit writes it: the id, and the bytes of everything else.
pub(crate) struct RawRow {
    pub(crate) id: [u8; 16],
    pub(crate) body: Vec<u8>,
}

/// Rows of the usual size.
pub(crate) fn rows(count: usize, salt: u64) -> Vec<RawRow> {
    rows_of(count, salt, 256 + 190)
}

pub(crate) fn rows_of(count: usize, salt: u64, bytes: usize) -> Vec<RawRow> {
    (0..count)
        .map(|number| {
            let mut id = [0; 16];
            // Ascending, as UUIDv7 are.
            id[..8].copy_from_slice(&salt.to_be_bytes());
            id[8..].copy_from_slice(&(number as u64).to_be_bytes());
            RawRow {
                id,
                body: vec![b'x'; bytes],
            }
        })
        .collect()
}

impl Raw {
    pub(crate) fn open(path: &Path, synchronous: &str) -> Self {
        let connection = Connection::open(path).unwrap();
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .unwrap();
        connection
            .pragma_update(None, "synchronous", synchronous)
            .unwrap();
        connection
            .execute_batch(&outbox::sqlite::schema_sql())
            .unwrap();
        Self(connection)
    }

    pub(crate) fn insert_batch(&self, rows: &[RawRow]) {
        self.0.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut insert = self
            .0
            .prepare_cached("INSERT INTO outbox_messages (id, due_at, body) VALUES (?1, 0, ?2)")
            .unwrap();
        for row in rows {
            insert.execute(params![row.id, row.body]).unwrap();
        }
        self.0.execute_batch("COMMIT").unwrap();
    }

    pub(crate) fn insert_one(&self, row: &RawRow) {
        let mut insert = self
            .0
            .prepare_cached("INSERT INTO outbox_messages (id, due_at, body) VALUES (?1, 0, ?2)")
            .unwrap();
        insert.execute(params![row.id, row.body]).unwrap();
    }

    /// Reads the next 500 rows into memory and deletes them; answers how many there were.
    pub(crate) fn take(&self, count: usize) -> usize {
        let mut select = self
            .0
            .prepare_cached(
                "SELECT seq, id, attempts, body FROM outbox_messages
                 WHERE state = 0 ORDER BY seq LIMIT ?1",
            )
            .unwrap();
        let read = |row: &rusqlite::Row<'_>| {
            let id: [u8; 16] = row.get(1)?;
            let body: Vec<u8> = row.get(3)?;
            Ok((row.get::<_, i64>(0)?, id, row.get::<_, i64>(2)?, body))
        };
        let rows: Vec<_> = select
            .query_map([count as i64], read)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let Some(last) = rows.last() else {
            return 0;
        };
        self.0.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut delete = self
            .0
            .prepare_cached("DELETE FROM outbox_messages WHERE seq <= ?1")
            .unwrap();
        delete.execute([last.0]).unwrap();
        self.0.execute_batch("COMMIT").unwrap();
        std::hint::black_box(&rows).len()
    }
}
