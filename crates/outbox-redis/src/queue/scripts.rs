//! The scripts of a queue. Those that make room or hand out what is there run on a server whose
//! memory is full, too; only what adds is refused there.

use crate::link::Script;

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("../scripts/moment.lua"),
            include_str!("../scripts/seen.lua"),
            include_str!("../scripts/queue/prelude.lua"),
            include_str!("../scripts/queue/batches.lua"),
            include_str!("../scripts/queue/back.lua"),
            include_str!("../scripts/queue/groups.lua"),
            include_str!(concat!("../scripts/queue/", $name, ".lua"))
        ))
    };
    ($name:literal, even_when_full) => {
        Script::new(concat!(
            "#!lua flags=allow-oom\n",
            include_str!("../scripts/moment.lua"),
            include_str!("../scripts/seen.lua"),
            include_str!("../scripts/queue/prelude.lua"),
            include_str!("../scripts/queue/batches.lua"),
            include_str!("../scripts/queue/back.lua"),
            include_str!("../scripts/queue/groups.lua"),
            include_str!(concat!("../scripts/queue/", $name, ".lua"))
        ))
    };
}

pub(super) static ENQUEUE: Script = script!("enqueue");
pub(super) static EXTEND: Script = script!("extend", even_when_full);
pub(super) static FORGET: Script = script!("forget", even_when_full);
pub(super) static HOLD: Script = script!("hold", even_when_full);
pub(super) static LOOK: Script = script!("look", even_when_full);
pub(super) static RECOVER: Script = script!("recover", even_when_full);
pub(super) static REPAIR: Script = script!("repair", even_when_full);
pub(super) static SETTLE: Script = script!("settle", even_when_full);
pub(super) static STATS: Script = script!("stats", even_when_full);
pub(super) static TAKE: Script = script!("take", even_when_full);
pub(super) static TRIM: Script = script!("trim", even_when_full);
