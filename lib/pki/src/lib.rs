//! Certificate authorities, certificates, CSRs and kubeconfigs.
