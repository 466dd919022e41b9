"""SQS and EventBridge: messages, events and the queues that they go to."""

import json

from given import ACCOUNT, until

PATTERN = json.dumps({"source": ["contract"], "detail": {"state": ["on"]}})
EVENT = {"Source": "contract", "DetailType": "d", "Detail": json.dumps({"state": "on"})}
TAGS = [{"Key": "contract", "Value": "yes"}, {"Key": "contract2", "Value": ""}]


def messages(story):
    queue = queues(story)
    rules(story, queue)


def queues(story):
    do = lambda operation, **it: story.do("sqs", operation, **it)
    dead = {"QueueUrl": do("CreateQueue", QueueName="contract-dead")["QueueUrl"]}
    told = do("GetQueueAttributes", AttributeNames=["All"], **dead)["Attributes"]
    redrive = json.dumps({"deadLetterTargetArn": told["QueueArn"], "maxReceiveCount": 9})
    for number in "12":
        do("CreateQueue", QueueName=f"contract{number}", tags={"contract": "yes"},
           Attributes={"RedrivePolicy": redrive, "VisibilityTimeout": "30"})
    queue = {"QueueUrl": do("GetQueueUrl", QueueName="contract1")["QueueUrl"]}
    arn = do("GetQueueAttributes", AttributeNames=["QueueArn"], **queue)["Attributes"]["QueueArn"]
    policy = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage", "Resource": arn}]}
    do("SetQueueAttributes", Attributes={"Policy": json.dumps(policy)}, **queue)
    do("ListDeadLetterSourceQueues", **dead)
    do("TagQueue", Tags={"a": "b", "c": ""}, **queue)
    do("ListQueueTags", **queue)
    do("UntagQueue", TagKeys=["c"], **queue)
    attribute = {"a": {"DataType": "String", "StringValue": "b"},
                 "n": {"DataType": "Number", "StringValue": "7"}}
    do("SendMessage", MessageBody="one", MessageAttributes=attribute, **queue)
    sent = do("SendMessageBatch", Entries=[
        {"Id": "a", "MessageBody": "two"}, {"Id": "b", "MessageBody": "three"},
        {"Id": "c", "MessageBody": "four", "DelaySeconds": 1000}], **queue)
    assert len(sent["Successful"]) == 2 and sent["Failed"][0]["Id"] == "c", sent
    got = {}

    def all_came():
        for it in do("ReceiveMessage", MaxNumberOfMessages=10, WaitTimeSeconds=1,
                     AttributeNames=["All"], MessageAttributeNames=["All"],
                     **queue).get("Messages", []):
            got[it["Body"]] = it["ReceiptHandle"]
        return len(got) == 3

    until(all_came)
    do("ChangeMessageVisibility", ReceiptHandle=got["one"], VisibilityTimeout=60, **queue)
    changed = do("ChangeMessageVisibilityBatch", Entries=[
        {"Id": "a", "ReceiptHandle": got["two"], "VisibilityTimeout": 60},
        {"Id": "b", "ReceiptHandle": "nobody's", "VisibilityTimeout": 60}], **queue)
    assert changed["Successful"] and changed["Failed"], changed
    do("DeleteMessage", ReceiptHandle=got["one"], **queue)
    do("DeleteMessageBatch", Entries=[
        {"Id": it, "ReceiptHandle": got[it]} for it in ("two", "three")], **queue)
    do("PurgeQueue", **queue)
    # The walk over pages looks at the two that send what is dead here.
    story.of |= dead
    return arn


def rules(story, queue):
    do = lambda operation, **it: story.do("events", operation, **it)
    for number in "12":
        rule = do("PutRule", Name=f"contract{number}", EventPattern=PATTERN, Description="d",
                  Tags=TAGS[:1])["RuleArn"]
        targets = [{"Id": it, "Arn": queue} for it in "abc"]
        targets[1]["InputTransformer"] = {"InputPathsMap": {"s": "$.detail.state"},
                                          "InputTemplate": '"it is <s>"'}
        done = do("PutTargets", Rule=f"contract{number}", Targets=targets)
        assert done["FailedEntryCount"] == 0, done
    do("RemoveTargets", Rule="contract2", Ids=["c"])
    do("DescribeRule", Name="contract1")
    do("DisableRule", Name="contract2")
    do("EnableRule", Name="contract2")
    do("DescribeEventBus")
    which = {"ResourceARN": rule}
    do("TagResource", Tags=TAGS, **which)
    do("ListTagsForResource", **which)
    do("UntagResource", TagKeys=["contract2"], **which)
    event = {"id": "1", "account": ACCOUNT, "source": "contract", "region": "us-east-1",
             "time": "2026-01-01T00:00:00Z", "resources": [], "detail-type": "d",
             "detail": {"state": "on"}}
    assert do("TestEventPattern", EventPattern=PATTERN, Event=json.dumps(event))["Result"]
    done = do("PutEvents", Entries=[EVENT, EVENT | {"Detail": "no object"}])
    assert done["FailedEntryCount"] == 1, done
    story.of |= {"Rule": "contract1", "TargetArn": queue}


def end(story):
    do = lambda operation, **it: story.do("events", operation, **it)
    for number in "12":
        rule = f"contract{number}"
        ids = [it["Id"] for it in do("ListTargetsByRule", Rule=rule)["Targets"]]
        do("RemoveTargets", Rule=rule, Ids=ids)
        do("DeleteRule", Name=rule)
    for name in ("contract1", "contract2", "contract-dead"):
        url = story.do("sqs", "GetQueueUrl", QueueName=name)["QueueUrl"]
        story.do("sqs", "DeleteQueue", QueueUrl=url)
