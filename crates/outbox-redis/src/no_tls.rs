//! What stands in the place of encrypted connections without the feature `tls`.

use std::path::Path;

use fred::types::config::Config;

/// Refuses.
pub(crate) fn encrypt(_config: &mut Config, _authorities: Option<&Path>) -> Result<(), String> {
    Err("needs the feature `tls`".to_owned())
}
