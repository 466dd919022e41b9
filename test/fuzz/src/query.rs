//! Query parameters: any form is a tree or an error, and any tree is a request or an error; what
//! was read is written and read again as the same.

use aws_ec2::{
    instance::DescribeInstancesRequest, run_instances::RunInstancesRequest,
    security_group::AuthorizeSecurityGroupIngressRequest,
};
use aws_wire::{form, percent, tree};

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert_eq!(percent::decode(&percent::encode(&text)), text);
    let pairs = percent::pairs(&text);
    let encode = |(name, value): &(String, String)| {
        format!("{}={}", percent::encode(name), percent::encode(value))
    };
    let joined: Vec<String> = pairs.iter().map(encode).collect();
    assert_eq!(percent::pairs(&joined.join("&")), pairs);
    let Ok(read) = form::to_tree(pairs) else { return };
    drop(tree::from_text::<RunInstancesRequest>(read.clone()));
    drop(tree::from_text::<DescribeInstancesRequest>(read.clone()));
    drop(tree::from_text::<AuthorizeSecurityGroupIngressRequest>(read));
}
