# What a platform team keeps in one place: network, cluster, node groups, identities, interruptions.
# The whole of it is applied, changed in place, and destroyed by test/e2e.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60"
    }
  }
}

provider "aws" {
  default_tags {
    tags = { Stack = var.name }
  }
}

variable "name" {
  type    = string
  default = "platform"
}

variable "nodes" {
  description = "How many On-Demand nodes"
  type        = number
  default     = 1
}

# Another number is another revision: it changes one attribute of each kind of resource in place.
variable "revision" {
  type    = number
  default = 1
}

locals {
  zones    = ["us-east-1a", "us-east-1b", "us-east-1c"]
  cidr     = "10.40.0.0/16"
  pod_cidr = "100.64.0.0/16"
  changed  = { Revision = tostring(var.revision) }
}

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}
