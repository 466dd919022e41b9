//! Compiles the protocol descriptions without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    for file in [
        "device_plugin.proto",
        "pod_resources.proto",
        "dra_v1.proto",
        "dra_v1beta1.proto",
        "dra_health.proto",
    ] {
        let mut descriptors = protox::compile([file], ["proto"])?;
        // The allocation of a container is compared and kept: maps have an order.
        let mut config = tonic_prost_build::configure().build_transport(false).btree_map(".");
        if file == "dra_v1beta1.proto" {
            // Its messages are those of `v1`.
            descriptors.file.retain(|it| it.name() == file);
            config = config.extern_path(".k8s.io.kubelet.pkg.apis.dra.v1", "crate::dra");
        }
        config.compile_fds(descriptors)?;
    }
    Ok(())
}
