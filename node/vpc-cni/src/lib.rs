//! ipamd: ENIs, the warm pool, and the CNI plug-in's logic.
