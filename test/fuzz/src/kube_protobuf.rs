//! Bodies of Kubernetes' protobuf: read or refused; what is read can be written, and is then read as
//! the same.

pub(crate) fn run(data: &[u8]) {
    let Ok(object) = kube_protobuf::decode(data) else { return };
    let written = kube_protobuf::encode(object.to_string().as_bytes()).expect("what was read");
    let again = kube_protobuf::decode(&written).expect("what was written");
    let twice = kube_protobuf::encode(again.to_string().as_bytes()).expect("what was read again");
    assert_eq!(kube_protobuf::decode(&twice).expect("what was written again"), again);
}
