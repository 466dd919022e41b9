//! Writes `schemas/kubernetes.json.gz`: the OpenAPI schemas of all built-in types that are served.
//!
//! They are derived from k8s-openapi's `schemars` feature, which ordinary builds do not compile.
//! Run it after an upgrade of k8s-openapi:
//!
//! ```text
//! cargo run -p kube-apiserver --features generate-openapi --example generate-openapi -- \
//!     control-plane/kube-apiserver/schemas/kubernetes.json.gz
//! ```

use std::{collections::BTreeMap, env, fs::File, io::Write};

use flate2::{Compression, write::GzEncoder};
use k8s_openapi::{
    Metadata, Resource,
    api::{
        admissionregistration::v1 as admissionregistration, apps::v1 as apps,
        authentication::v1 as authentication, authorization::v1 as authorization,
        autoscaling::v1 as autoscaling_v1, autoscaling::v2 as autoscaling_v2, batch::v1 as batch,
        certificates::v1 as certificates, certificates::v1beta1 as certificates_v1beta1,
        coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
        events::v1 as events, flowcontrol::v1 as flowcontrol, networking::v1 as networking,
        node::v1 as node, policy::v1 as policy, rbac::v1 as rbac, resource::v1 as resource,
        scheduling::v1 as scheduling, storage::v1 as storage,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions,
    apimachinery::pkg::apis::meta::v1 as meta,
    kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

struct Collector {
    generator: SchemaGenerator,
    kinds: BTreeMap<String, Value>,
}

impl Collector {
    fn kind<T: JsonSchema + Resource>(&mut self) {
        let schema = T::schema_name().into_owned();
        self.generator.subschema_for::<T>();
        let kind = json!({ "group": T::GROUP, "version": T::VERSION, "kind": T::KIND });
        self.kinds.insert(schema, kind);
    }

    fn listed<T: JsonSchema + Resource>(&mut self)
    where
        T: Metadata<Ty = meta::ObjectMeta>,
    {
        self.kind::<T>();
    }
}

macro_rules! collect {
    ($collector:ident: $($module:ident::{$($kind:ident),* $(,)?})*) => {
        $($($collector.listed::<$module::$kind>();)*)*
    };
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = env::args().nth(1).ok_or("usage: generate-openapi FILE")?;
    let mut settings = SchemaSettings::openapi3();
    settings.inline_subschemas = false;
    let mut all = Collector { generator: settings.into_generator(), kinds: BTreeMap::new() };
    collect!(all:
        core::{
            Binding, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
            PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret,
            Service, ServiceAccount,
        }
        admissionregistration::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy,
            ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
        }
        apiextensions::{CustomResourceDefinition}
        apiregistration::{APIService}
        apps::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet}
        authentication::{SelfSubjectReview, TokenRequest, TokenReview}
        authorization::{
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
            SubjectAccessReview,
        }
        autoscaling_v1::{HorizontalPodAutoscaler, Scale}
        autoscaling_v2::{HorizontalPodAutoscaler}
        batch::{CronJob, Job}
        certificates::{CertificateSigningRequest}
        certificates_v1beta1::{ClusterTrustBundle}
        coordination::{Lease}
        discovery::{EndpointSlice}
        events::{Event}
        flowcontrol::{FlowSchema, PriorityLevelConfiguration}
        networking::{IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR}
        node::{RuntimeClass}
        policy::{Eviction, PodDisruptionBudget}
        rbac::{ClusterRole, ClusterRoleBinding, Role, RoleBinding}
        resource::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice}
        scheduling::{PriorityClass}
        storage::{
            CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
            VolumeAttributesClass,
        }
    );
    all.generator.subschema_for::<meta::DeleteOptions>();
    all.kinds.insert(
        "io.k8s.apimachinery.pkg.apis.meta.v1.Status".into(),
        json!({ "group": "", "version": "v1", "kind": "Status" }),
    );
    all.generator.subschema_for::<meta::Status>();
    let definitions = all.generator.take_definitions(true);
    write(&path, &json!({ "kinds": all.kinds, "schemas": definitions }))?;
    let definitions: Map<String, Value> = definitions;
    println!("{} schemas, {} kinds", definitions.len(), all.kinds.len());
    Ok(())
}

fn write(path: &str, value: &Value) -> std::io::Result<()> {
    let mut encoder = GzEncoder::new(File::create(path)?, Compression::best());
    encoder.write_all(value.to_string().as_bytes())?;
    encoder.finish().map(drop)
}
