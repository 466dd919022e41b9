//! User data: packed, in parts or plain, it is understood or refused; so is each `NodeConfig` in it.

use nodeadm::{node_config::NodeConfig, user_data::UserData};

pub(crate) fn run(data: &[u8]) {
    let Ok(found) = UserData::parse(data) else { return };
    if let Ok(Some(config)) = NodeConfig::parse(&found.configs) {
        let _ = (config.cluster_dns(), config.is_enabled("InstanceIdNodeName"));
    }
}
