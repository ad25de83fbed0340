use crate::keys::Keys;

/// The keys of a queue, in the order in which every script has them.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    all: [String; 11],
    groups: String,
}

impl Parts {
    pub(super) fn new(keys: &Keys, group: &str) -> Self {
        let of_group = |part: &str| keys.part(&format!("{group}:{part}"));
        Self {
            all: [
                keys.part("stream"),
                of_group("held"),
                of_group("holds"),
                of_group("counts"),
                of_group("delayed"),
                of_group("returned"),
                of_group("bell"),
                of_group("quarantine"),
                keys.part("seen"),
                of_group("back"),
                of_group("batches"),
            ],
            groups: keys.part("groups"),
        }
    }

    pub(super) fn all(&self) -> [&str; 11] {
        self.all.each_ref().map(String::as_str)
    }

    /// What was enqueued and is not settled.
    pub(super) fn stream(&self) -> &str {
        &self.all[0]
    }

    /// Rings where something comes due earlier than those who wait know.
    pub(super) fn bell(&self) -> &str {
        &self.all[6]
    }

    /// When each group was seen last.
    pub(super) fn groups(&self) -> &str {
        &self.groups
    }

    /// What is noted for the group, but its quarantine.
    pub(super) fn of_group(&self) -> impl Iterator<Item = &str> {
        let noted = self.all[1..7].iter().chain(&self.all[9..]);
        noted.map(String::as_str)
    }

    /// What could not be delivered.
    pub(super) fn quarantine(&self) -> &str {
        &self.all[7]
    }
}
