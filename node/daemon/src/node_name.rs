//! What people call a node.

use std::fs;

use crate::paths::DEFAULT_NAME;

/// What people call the node of an instance, unless configured: its machine, and the instance if it
/// is not the usual one.
pub(crate) fn node_name(instance: &str) -> String {
    called(&host_name(), instance)
}

/// What people call this machine.
fn host_name() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match text.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

fn called(host: &str, instance: &str) -> String {
    match instance {
        DEFAULT_NAME => host.to_owned(),
        _ => format!("{host}/{instance}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_by_its_machine_and_unusual_instances_by_theirs() {
        assert_eq!(called("den", "default"), "den");
        assert_eq!(called("den", "attic"), "den/attic");
        assert!(!host_name().is_empty());
    }
}
