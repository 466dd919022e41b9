//! Compiles the protocol descriptions without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    for file in ["cri.proto", "events.proto", "content.proto", "snapshots.proto", "tasks.proto"] {
        let descriptors = protox::compile([file], ["proto"])?;
        tonic_prost_build::configure().build_transport(false).compile_fds(descriptors)?;
    }
    Ok(())
}
