//! The scripts of a quarantine. Those that take away, and the indexes that these need, run on a server
//! whose memory is full, too.

use crate::link::Script;

macro_rules! script {
    ($name:literal) => {
        script!("", $name)
    };
    ($name:literal, even_when_full) => {
        script!("#!lua flags=allow-oom\n", $name)
    };
    ($flags:literal, $name:literal) => {
        Script::new(concat!(
            $flags,
            include_str!("../scripts/moment.lua"),
            include_str!("../scripts/seen.lua"),
            include_str!("../scripts/queue/prelude.lua"),
            include_str!("../scripts/queue/back.lua"),
            include_str!("../scripts/queue/groups.lua"),
            include_str!("../scripts/dlq/letters/prelude.lua"),
            include_str!(concat!("../scripts/dlq/letters/", $name, ".lua"))
        ))
    };
}

pub(super) static AUDIT: Script = script!("audit", even_when_full);
pub(super) static DISCARD: Script = script!("discard", even_when_full);
pub(super) static FILL: Script = script!("fill", even_when_full);
pub(super) static FIND: Script = script!("find", even_when_full);
pub(super) static FIND_LINES: Script = script!("find_lines", even_when_full);
pub(super) static IMPORT: Script = script!("import");
pub(super) static MOVE: Script = script!("move", even_when_full);
pub(super) static READ: Script = script!("read", even_when_full);
pub(super) static REDRIVE: Script = script!("redrive");
pub(super) static SEEN: Script = script!("seen", even_when_full);
pub(super) static SWEEP: Script = script!("sweep", even_when_full);
pub(super) static UNFILLED: Script = script!("unfilled", even_when_full);
