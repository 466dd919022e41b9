resource "aws_ecr_repository" "app" {
  name                 = "${var.name}/app"
  image_tag_mutability = var.revision > 1 ? "IMMUTABLE" : "MUTABLE"
  force_delete         = true
  tags                 = local.changed
}

resource "aws_ecr_repository_policy" "app" {
  repository = aws_ecr_repository.app.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Pull"
      Effect    = "Allow"
      Principal = { AWS = aws_iam_role.service["node"].arn }
      Action    = concat(["ecr:BatchGetImage"], var.revision > 1 ? ["ecr:GetDownloadUrlForLayer"] : [])
    }]
  })
}

resource "aws_ecr_lifecycle_policy" "app" {
  repository = aws_ecr_repository.app.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Untagged images go"
      selection = {
        tagStatus   = "untagged"
        countType   = "imageCountMoreThan"
        countNumber = 3
      }
      action = { type = "expire" }
    }]
  })
}

resource "aws_ssm_parameter" "endpoint" {
  name        = "/${var.name}/endpoint"
  type        = "String"
  value       = aws_eks_cluster.this.endpoint
  description = "Revision ${var.revision}"
  tags        = local.changed
}

output "cluster" {
  value = aws_eks_cluster.this.name
}

output "queue" {
  value = aws_sqs_queue.interruptions.url
}
