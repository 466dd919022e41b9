# Where a node's end is announced: Karpenter's queue, and the rules that fill it.
resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-dead"
  message_retention_seconds = 86400 * var.revision
}

resource "aws_sqs_queue" "interruptions" {
  name                       = "${var.name}-interruptions"
  message_retention_seconds  = 300
  visibility_timeout_seconds = 30 * var.revision
  receive_wait_time_seconds  = 20
  sqs_managed_sse_enabled    = true
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = 3 + var.revision
  })
  tags = local.changed
}

data "aws_iam_policy_document" "interruptions" {
  statement {
    sid       = "EventsToQueue"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.interruptions.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com", "sqs.amazonaws.com"]
    }
  }
  statement {
    sid       = var.revision > 1 ? "DenyHttp" : "DenyHTTP"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = ["${aws_sqs_queue.interruptions.arn}/none"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "interruptions" {
  queue_url = aws_sqs_queue.interruptions.id
  policy    = data.aws_iam_policy_document.interruptions.json
}

locals {
  rules = {
    spot = {
      source = ["aws.ec2"], detail-type = ["EC2 Spot Instance Interruption Warning"]
    }
    rebalance = {
      source = ["aws.ec2"], detail-type = ["EC2 Instance Rebalance Recommendation"]
    }
    state-change = {
      source = ["aws.ec2"], detail-type = ["EC2 Instance State-change Notification"]
    }
    health = {
      source = ["aws.health"], detail-type = ["AWS Health Event"]
    }
  }
}

resource "aws_cloudwatch_event_rule" "interruptions" {
  for_each      = local.rules
  name          = "${var.name}-${each.key}"
  description   = "Revision ${var.revision}"
  event_pattern = jsonencode(each.value)
  state         = var.revision > 1 && each.key == "health" ? "DISABLED" : "ENABLED"
  tags          = local.changed
}

resource "aws_cloudwatch_event_target" "interruptions" {
  for_each  = aws_cloudwatch_event_rule.interruptions
  rule      = each.value.name
  target_id = "queue"
  arn       = aws_sqs_queue.interruptions.arn
}
