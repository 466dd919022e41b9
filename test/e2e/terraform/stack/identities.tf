locals {
  cluster_policies = ["AmazonEKSClusterPolicy", "AmazonEKSVPCResourceController"]
  node_policies = [
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryReadOnly",
  ]
  issuer = replace(aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://", "")
}

data "aws_iam_policy_document" "trust" {
  for_each = {
    cluster = ["eks.amazonaws.com"]
    node    = ["ec2.amazonaws.com"]
    fargate = ["eks-fargate-pods.amazonaws.com"]
  }

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = each.value
    }
  }
}

resource "aws_iam_role" "service" {
  for_each             = data.aws_iam_policy_document.trust
  name                 = "${var.name}-${each.key}"
  description          = "The ${each.key} of ${var.name}, revision ${var.revision}"
  assume_role_policy   = each.value.json
  max_session_duration = 3600 * var.revision
}

resource "aws_iam_role_policy_attachment" "cluster" {
  for_each   = toset(local.cluster_policies)
  role       = aws_iam_role.service["cluster"].name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/${each.key}"
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each   = toset(local.node_policies)
  role       = aws_iam_role.service["node"].name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/${each.key}"
}

resource "aws_iam_role_policy_attachment" "fargate" {
  role       = aws_iam_role.service["fargate"].name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/AmazonEKSFargatePodExecutionRolePolicy"
}

resource "aws_iam_instance_profile" "node" {
  name = "${var.name}-self-managed"
  role = aws_iam_role.service["node"].name
  tags = local.changed
}

resource "aws_iam_openid_connect_provider" "cluster" {
  url             = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list  = ["sts.amazonaws.com"]
  thumbprint_list = ["9e99a48a9960b14926bb7f3b02e22da2b0ab7280"]
  tags            = local.changed
}

data "aws_iam_policy_document" "irsa" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.cluster.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["system:serviceaccount:platform:reader"]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "irsa" {
  name               = "${var.name}-irsa"
  assume_role_policy = data.aws_iam_policy_document.irsa.json
}

data "aws_iam_policy_document" "reader" {
  statement {
    actions   = var.revision > 1 ? ["ssm:GetParameter", "ssm:GetParameters"] : ["ssm:GetParameter"]
    resources = [aws_ssm_parameter.endpoint.arn]
  }
}

resource "aws_iam_policy" "reader" {
  name   = "${var.name}-reader"
  policy = data.aws_iam_policy_document.reader.json
  tags   = local.changed
}

resource "aws_iam_role_policy_attachment" "irsa" {
  role       = aws_iam_role.irsa.name
  policy_arn = aws_iam_policy.reader.arn
}

data "aws_iam_policy_document" "pod_identity" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]
    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "pod_identity" {
  for_each           = toset(["one", "two"])
  name               = "${var.name}-pod-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.pod_identity.json
}

resource "aws_iam_role_policy" "pod_identity" {
  for_each = aws_iam_role.pod_identity
  name     = "queue"
  role     = each.value.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = var.revision > 1 ? ["sqs:ReceiveMessage", "sqs:DeleteMessage"] : ["sqs:ReceiveMessage"]
      Resource = aws_sqs_queue.interruptions.arn
    }]
  })
}
