"""Every operation of the region by an unmodified boto3, every answer against botocore's model.

Standard input: the operations that the region serves, as `{"ec2": ["CreateVpc", …], …}`. Standard
output: `{"seen": {"ec2:CreateVpc": ["success"]}, "wrong": [], "unpaged": [], "counts": {}}`.
"""

import json
import sys
import time
import traceback

from checks import Checker

from scenario import Story
from walks import Walks


def powerless(story):
    """The keys of a user who may do nothing."""
    story.do("iam", "CreateUser", UserName="contract-nobody")
    key = story.do("iam", "CreateAccessKey", UserName="contract-nobody")["AccessKey"]
    return {"aws_access_key_id": key["AccessKeyId"],
            "aws_secret_access_key": key["SecretAccessKey"]}


def main():
    operations = json.load(sys.stdin)
    checker = Checker()
    story = Story(checker)
    walks = Walks(operations, story, checker)
    steps = [
        ("the story", story.tell),
        ("refusals", walks.refusals),
        ("dry runs", lambda: walks.dry_runs(powerless(story))),
        ("paginators", walks.paginators),
        ("waiters", walks.waiters),
        ("the end", story.end),
    ]
    wrong = []
    for name, step in steps:
        begun = time.monotonic()
        try:
            wrong += [f"{name}: {it}" for it in step() or []]
        except Exception:  # pylint: disable=broad-except
            wrong.append(f"{name}: {traceback.format_exc(limit=-4)}")
        print(f"{name}: {time.monotonic() - begun:.1f} s", file=sys.stderr)
    wrong += walks.wrong + list(checker.problems)
    seen = {it: sorted(how) for it, how in sorted(checker.seen.items())}
    json.dump({"seen": seen, "wrong": wrong, "unpaged": walks.unpaged,
               "counts": walks.counts}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
