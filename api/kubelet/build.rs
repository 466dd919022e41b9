//! Compiles the protocol descriptions without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    for file in ["device_plugin.proto", "pod_resources.proto"] {
        let descriptors = protox::compile([file], ["proto"])?;
        // The allocation of a container is compared and kept: maps have an order.
        tonic_prost_build::configure()
            .build_transport(false)
            .btree_map(".")
            .compile_fds(descriptors)?;
    }
    Ok(())
}
