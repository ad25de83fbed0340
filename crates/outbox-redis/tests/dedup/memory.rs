//! What an id weighs in the server's memory.

use outbox_redis_harness::Wire;

use super::*;

const IDS: usize = 100_000;

const BATCH: usize = 1_000;

async fn used_memory(wire: &mut Wire) -> Result<u64, BoxError> {
    let info = wire.command(&["INFO", "memory"]).await?;
    let info = info.text().ok_or("INFO is a text")?;
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used.ok_or("used_memory is told")?.trim().parse()?)
}

/// The bytes that an id weighs, a hundred thousand of them being remembered in `layout`.
async fn bytes_an_id(layout: DedupLayout) -> Result<f64, BoxError> {
    let scene = Scene::new(&[], layout).await?;
    let mut wire = scene.server.wire().await?;
    let ids = ids(IDS + BATCH);
    let (first, rest) = ids.split_at(BATCH);
    // Buffers and scripts are there from now on, and are nobody's.
    scene.process(first).await?;
    let before = used_memory(&mut wire).await?;
    for batch in rest.chunks(BATCH) {
        scene.process(batch).await?;
    }
    let used = used_memory(&mut wire).await?.saturating_sub(before);
    Ok(used as f64 / IDS as f64)
}

#[tokio::test]
async fn sets_take_less_than_two_thirds_of_the_plain_layout() -> Tested {
    let plain = bytes_an_id(DedupLayout::Plain).await?;
    let sets = bytes_an_id(SETS).await?;
    let told = format!("plain {plain:.0} B, sets {sets:.0} B an id");
    assert!(sets * 3.0 < plain * 2.0, "{told}");
    Ok(())
}

#[tokio::test]
async fn the_compact_layout_takes_a_fourth_of_the_plain_one() -> Tested {
    let plain = bytes_an_id(DedupLayout::Plain).await?;
    let packed = bytes_an_id(PACKED).await?;
    let told = format!("plain {plain:.0} B, compact {packed:.0} B an id");
    assert!(
        plain < 160.0 && packed < 30.0 && packed * 4.0 < plain,
        "{told}"
    );
    Ok(())
}
