terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60"
    }
  }
}

# The endpoint, the region and the keys come from the environment: `eval "$(nodestead env)"`.
provider "aws" {}
