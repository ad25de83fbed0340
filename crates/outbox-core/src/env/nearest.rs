/// The known name that `found` was most likely meant to be; `None` where nothing comes near.
pub(super) fn nearest<'n>(found: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let distances = known.map(|name| (distance(found, name), name));
    let (steps, name) = distances.min()?;
    (steps <= found.len() / 3).then_some(name)
}

/// How many characters have to be put in, taken out or changed to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let changed = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_characters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        let known = || ["OUTBOX_BATCH_SIZE", "OUTBOX_PATH"].into_iter();
        assert_eq!(
            nearest("OUTBOX_BATCHSIZE", known()),
            Some("OUTBOX_BATCH_SIZE")
        );
        assert_eq!(nearest("OUTBOX_COFFEE_MACHINE_BRAND", known()), None);
    }
}
