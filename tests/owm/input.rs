//! Rows, files and settings that cannot be used.

use std::path::Path;

use outbox::id::Entropy;

use crate::scene::Scene;
use crate::support::{Program, write};

#[tokio::test]
async fn bad_rows_are_told_by_line_and_stop_no_other() {
    let scene = Scene::new();
    let rows = "geoname_id,name,latitude,longitude\n\
        1,\"Good, quoted\",10.5,20.5\n\
        x,Letters,1,2\n\
        2,Pole,90.01,0\n\
        3,Nowhere,NaN,0\n\
        0,Zero,1,1\n\
        4,Short,1\n\
        5,Far,1,-180.5\n\
        6,Date line,-90,180\n";
    let cities = write(scene.folder(), "bad.csv", rows);
    let ended = scene
        .program("owm_producer")
        .with("--cities", cities)
        .run()
        .await
        .expect(3);
    assert_eq!((ended.count("produced"), ended.count("flushed")), (2, 2));
    for told in [
        "line 3: geoname_id `x` is not a number",
        "line 4: latitude 90.01 is not from -90 to 90 degrees",
        "line 5: latitude NaN is not",
        "line 6: city id 0 is not positive",
        "line 7: has 3 fields where the header has 4",
        "line 8: longitude -180.5 is not from -180 to 180 degrees",
        "6 rows gave no task",
    ] {
        assert!(
            ended.complained.contains(told),
            "{told}\n{}",
            ended.complained
        );
    }
    assert_eq!(scene.work_until_empty().await.count("handled"), 2);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_a_bad_row_and_stop_no_other() {
    let scene = Scene::new();
    let path = scene.folder().join("latin1.csv");
    std::fs::write(
        &path,
        b"geoname_id,name,latitude,longitude\n1,K\xf6ln,1,1\n2,Bonn,1,1\n",
    )
    .unwrap();
    let ended = scene
        .program("owm_producer")
        .with("--cities", path)
        .run()
        .await
        .expect(3);
    assert_eq!(ended.count("flushed"), 1);
    assert!(
        ended.complained.contains("line 2: is not UTF-8"),
        "{}",
        ended.complained
    );
}

#[tokio::test]
async fn cities_that_cannot_be_read_are_refused_before_anything_is_touched() {
    let scene = Scene::new();
    let no_columns = write(scene.folder(), "other.csv", "id,lat\n1,2\n");
    for (cities, told) in [
        (scene.folder().join("nowhere.csv"), "No such file"),
        (scene.folder().to_owned(), "cannot read the cities"),
        (no_columns, "has no column `geoname_id`"),
    ] {
        for program in ["owm_producer", "pipeline"] {
            let ended = scene
                .program(program)
                .with("--cities", &cities)
                .run()
                .await
                .expect(2);
            assert!(ended.complained.contains(told), "{}", ended.complained);
        }
    }
    assert!(!scene.file.path().exists());
}

#[tokio::test]
async fn every_setting_that_cannot_be_used_is_told_at_once() {
    let scene = Scene::new();
    for program in ["owm_producer", "owm_worker", "pipeline"] {
        let program = scene.program(program).with("--connections", "0");
        let program = program
            .env("OUTBOX_BATCH_SIZE", "many")
            .env("OUTBOX_LEASE", "5");
        let program = program.env("OUTBOX_TIME_ZONE", "Europe/Atlantis");
        let ended = program.env("OUTBOX_STREAMS", "x").run().await.expect(2);
        for told in [
            "--connections: `0` is not",
            "OUTBOX_BATCH_SIZE: `many` is not",
            "OUTBOX_LEASE: `5` is not a duration",
            "OUTBOX_TIME_ZONE: `Europe/Atlantis` is not",
            "OUTBOX_STREAMS: is not known; did you mean OUTBOX_STREAM?",
        ] {
            assert!(
                ended.complained.contains(told),
                "{told}\n{}",
                ended.complained
            );
        }
    }
    assert!(!scene.file.path().exists());
}

#[tokio::test]
async fn a_flag_outweighs_its_variable() {
    let scene = Scene::new();
    let elsewhere = scene.folder().join("deep/elsewhere.db");
    let elsewhere = elsewhere.to_str().unwrap();
    scene
        .producer(3)
        .env("OUTBOX_PATH", elsewhere)
        .run()
        .await
        .expect(0);
    assert!(scene.file.path().exists() && !Path::new(elsewhere).exists());
    let cities = scene.folder().join("cities.csv");
    let by_variable = Program::new("owm_producer").env("OUTBOX_PATH", elsewhere);
    by_variable.with("--cities", cities).run().await.expect(0);
    assert!(Path::new(elsewhere).exists(), "the folder is made, too");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told_by_its_name() {
    let scene = Scene::new();
    std::fs::write(
        scene.file.path(),
        "a diary, and not a database at all\n".repeat(99),
    )
    .unwrap();
    let ended = scene.producer(3).run().await.expect(1);
    assert!(
        ended.complained.contains("outbox.db"),
        "{}",
        ended.complained
    );
}

/// A list of cities with pieces of it replaced by any bytes.
fn spoiled(chance: &Entropy) -> Vec<u8> {
    let mut bytes = b"geoname_id,name,latitude,longitude\n".to_vec();
    for city in 1..40 {
        bytes.extend(format!("{city},\"Town, {city}\",{city}.5,-{city}.25\n").into_bytes());
    }
    for _ in 0..chance.next_u64() % 30 {
        let place = (chance.next_u64() % bytes.len() as u64) as usize;
        let any = chance.next_u64().to_le_bytes();
        bytes[place] = *[b'"', b',', b'\n', b'\r', b'-', any[0], any[1], any[2]]
            .get((any[3] % 8) as usize)
            .unwrap();
    }
    bytes
}

#[tokio::test]
async fn whatever_bytes_a_list_of_cities_has_it_is_flushed_or_told() {
    let scene = Scene::new();
    let mut codes = std::collections::BTreeSet::new();
    for seed in 0..24 {
        let path = scene.folder().join(format!("{seed}.csv"));
        std::fs::write(&path, spoiled(&Entropy::seeded(seed))).unwrap();
        let producer = scene.program("owm_producer").with("--cities", path);
        let ended = producer.run().await;
        let told = (&ended.told, &ended.complained);
        assert!(matches!(ended.code, Some(0..=3)), "seed {seed}: {told:?}");
        assert!(
            !ended.complained.contains("panicked"),
            "seed {seed}: {told:?}"
        );
        codes.insert(ended.code);
    }
    assert!(codes.len() > 1, "nothing was spoiled: {codes:?}");
}
