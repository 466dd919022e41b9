resource "aws_eks_cluster" "this" {
  name     = var.name
  role_arn = aws_iam_role.service["cluster"].arn

  vpc_config {
    subnet_ids              = aws_subnet.private[*].id
    endpoint_private_access = true
    endpoint_public_access  = true
    public_access_cidrs     = var.revision > 1 ? ["203.0.113.0/24"] : ["0.0.0.0/0"]
  }

  access_config {
    authentication_mode                         = "API_AND_CONFIG_MAP"
    bootstrap_cluster_creator_admin_permissions = true
  }

  tags       = local.changed
  depends_on = [aws_iam_role_policy_attachment.cluster]
}

resource "aws_launch_template" "managed" {
  name                   = "${var.name}-managed"
  update_default_version = true
  instance_type          = "m5.large"
  vpc_security_group_ids = [
    aws_eks_cluster.this.vpc_config[0].cluster_security_group_id,
    aws_security_group.node.id,
  ]

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size           = 30
      volume_type           = "gp3"
      delete_on_termination = true
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.name}-managed" }
  }

  tags = local.changed
}

resource "aws_eks_node_group" "on_demand" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "on-demand"
  node_role_arn   = aws_iam_role.service["node"].arn
  subnet_ids      = aws_subnet.private[*].id
  ami_type        = "AL2023_x86_64_STANDARD"
  capacity_type   = "ON_DEMAND"
  labels          = merge({ pool = "on-demand" }, var.revision > 1 ? { revised = "true" } : {})

  launch_template {
    id      = aws_launch_template.managed.id
    version = "1"
  }

  scaling_config {
    min_size     = 0
    max_size     = 2 + var.revision
    desired_size = var.nodes
  }

  update_config {
    max_unavailable = var.revision
  }

  tags = local.changed

  # Nodes that lose their way out or their rights cannot be drained: these go after them.
  depends_on = [
    aws_iam_role_policy_attachment.node,
    aws_route.private,
    aws_route_table_association.private,
    aws_vpc_security_group_ingress_rule.among_nodes,
    aws_vpc_security_group_ingress_rule.control_plane,
    aws_vpc_security_group_egress_rule.all,
    aws_nat_gateway.this,
    aws_route.public,
    aws_route_table_association.public,
    # What becomes of its nodes is to be heard of.
    aws_cloudwatch_event_target.interruptions,
    aws_sqs_queue_policy.interruptions,
  ]
}

resource "aws_eks_node_group" "spot" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "spot"
  node_role_arn   = aws_iam_role.service["node"].arn
  subnet_ids      = aws_subnet.private[*].id
  ami_type        = "BOTTLEROCKET_x86_64"
  capacity_type   = "SPOT"
  instance_types  = ["m5.large", "m5a.large", "m6i.large"]
  disk_size       = 30

  scaling_config {
    min_size     = 0
    max_size     = 3
    desired_size = var.revision > 1 ? 1 : 0
  }

  taint {
    key    = "spot"
    value  = "true"
    effect = var.revision > 1 ? "PREFER_NO_SCHEDULE" : "NO_SCHEDULE"
  }

  depends_on = [
    aws_iam_role_policy_attachment.node,
    aws_route.private,
    aws_route_table_association.private,
  ]
}

resource "aws_eks_fargate_profile" "serverless" {
  cluster_name           = aws_eks_cluster.this.name
  fargate_profile_name   = "serverless"
  pod_execution_role_arn = aws_iam_role.service["fargate"].arn
  subnet_ids             = aws_subnet.private[*].id

  selector {
    namespace = "serverless"
    labels    = { compute = "fargate" }
  }

  tags       = local.changed
  depends_on = [aws_iam_role_policy_attachment.fargate, aws_route.private]
}

resource "aws_eks_addon" "vpc_cni" {
  cluster_name = aws_eks_cluster.this.name
  addon_name   = "vpc-cni"
  configuration_values = jsonencode({
    env = { WARM_IP_TARGET = tostring(4 + var.revision) }
  })
  resolve_conflicts_on_update = "OVERWRITE"
  tags                        = local.changed
}

resource "aws_eks_addon" "kube_proxy" {
  cluster_name = aws_eks_cluster.this.name
  addon_name   = "kube-proxy"
  tags         = local.changed
}

resource "aws_eks_addon" "pod_identity_agent" {
  cluster_name = aws_eks_cluster.this.name
  addon_name   = "eks-pod-identity-agent"
}

# It runs on nodes, and is not active without any.
resource "aws_eks_addon" "coredns" {
  cluster_name = aws_eks_cluster.this.name
  addon_name   = "coredns"
  depends_on   = [aws_eks_node_group.on_demand]
}

resource "aws_eks_access_entry" "admin" {
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_iam_role.irsa.arn
  tags          = local.changed
}

resource "aws_eks_access_policy_association" "admin" {
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_eks_access_entry.admin.principal_arn
  policy_arn    = "arn:${data.aws_partition.this.partition}:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"

  access_scope {
    type       = "namespace"
    namespaces = ["platform"]
  }
}

resource "aws_eks_access_entry" "self_managed" {
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_iam_role.pod_identity["two"].arn
  type          = "EC2_LINUX"
}

resource "aws_eks_pod_identity_association" "worker" {
  cluster_name    = aws_eks_cluster.this.name
  namespace       = "platform"
  service_account = "worker"
  role_arn        = aws_iam_role.pod_identity[var.revision > 1 ? "two" : "one"].arn
}

# Nodes that are nobody's but the team's.
data "aws_ssm_parameter" "image" {
  name = "/aws/service/eks/optimized-ami/${aws_eks_cluster.this.version}/amazon-linux-2023/x86_64/standard/recommended/image_id"
}

resource "aws_launch_template" "self_managed" {
  name                   = "${var.name}-self-managed"
  image_id               = data.aws_ssm_parameter.image.value
  instance_type          = var.revision > 1 ? "m5.xlarge" : "m5.large"
  update_default_version = true
  vpc_security_group_ids = [aws_eks_cluster.this.vpc_config[0].cluster_security_group_id]

  iam_instance_profile {
    arn = aws_iam_instance_profile.node.arn
  }

  user_data = base64encode(<<-EOT
    MIME-Version: 1.0
    Content-Type: multipart/mixed; boundary="//"

    --//
    Content-Type: application/node.eks.aws

    ---
    apiVersion: node.eks.aws/v1alpha1
    kind: NodeConfig
    spec:
      cluster:
        name: ${aws_eks_cluster.this.name}
        apiServerEndpoint: ${aws_eks_cluster.this.endpoint}
        certificateAuthority: ${aws_eks_cluster.this.certificate_authority[0].data}
        cidr: ${aws_eks_cluster.this.kubernetes_network_config[0].service_ipv4_cidr}

    --//--
  EOT
  )
}

resource "aws_autoscaling_group" "self_managed" {
  name                = "${var.name}-self-managed"
  vpc_zone_identifier = aws_subnet.private[*].id
  min_size            = 0
  max_size            = 1 + var.revision
  desired_capacity    = 0

  launch_template {
    id      = aws_launch_template.self_managed.id
    version = aws_launch_template.self_managed.latest_version
  }

  tag {
    key                 = "kubernetes.io/cluster/${aws_eks_cluster.this.name}"
    value               = "owned"
    propagate_at_launch = true
  }

  tag {
    key                 = "Revision"
    value               = tostring(var.revision)
    propagate_at_launch = false
  }
}
