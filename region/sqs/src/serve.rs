//! Which function serves which operation, and what IAM and the queue's policy are asked.
//!
//! Source: Service Authorization Reference, "Amazon SQS": batches are decided on as their single calls.

use std::sync::Arc;

use aws_sqs::{batch as b, message as m, queue as q, tag as t};
use aws_wire::{Fault, Operation};
use region_gateway::{Caller, Handle, Routes, Target};

use crate::{Sqs, batches, messages, queues, receipts, receive, tags};

/// Operations on one queue, by its URL.
macro_rules! serve {
    ($($module:ident::$operation:ident as $action:literal: $function:path;)*) => {
        $(impl Handle<$module::$operation> for Sqs {
            /// Decided below, together with the queue's policy.
            fn targets(
                &self,
                _: &Caller,
                _: &<$module::$operation as Operation>::Request,
            ) -> Vec<Target> {
                Vec::new()
            }

            async fn handle(
                &self,
                caller: &Caller,
                request: <$module::$operation as Operation>::Request,
            ) -> Result<<$module::$operation as Operation>::Response, Fault> {
                let queue = self.authorized(caller, $action, &request.queue_url)?;
                $function(self, caller, &queue, request)
            }
        })*

        /// Every operation of the service.
        pub fn routes(sqs: &Arc<Sqs>) -> Routes {
            let routes = Routes::new()
                .operation::<q::CreateQueue, _>(sqs.clone())
                .operation::<q::GetQueueUrl, _>(sqs.clone())
                .operation::<q::ListQueues, _>(sqs.clone())
                .operation::<m::ReceiveMessage, _>(sqs.clone())
                .operation::<t::TagQueue, _>(sqs.clone());
            $(let routes = routes.operation::<$module::$operation, _>(sqs.clone());)*
            routes
        }
    };
}

serve! {
    q::GetQueueAttributes as "sqs:GetQueueAttributes": queues::attributes;
    q::SetQueueAttributes as "sqs:SetQueueAttributes": queues::set_attributes;
    q::DeleteQueue as "sqs:DeleteQueue": queues::delete;
    q::ListDeadLetterSourceQueues as "sqs:ListDeadLetterSourceQueues": queues::sources;
    q::PurgeQueue as "sqs:PurgeQueue": queues::purge;
    t::UntagQueue as "sqs:UntagQueue": tags::remove;
    t::ListQueueTags as "sqs:ListQueueTags": tags::list;
    m::SendMessage as "sqs:SendMessage": messages::send;
    m::DeleteMessage as "sqs:DeleteMessage": receipts::delete;
    m::ChangeMessageVisibility as "sqs:ChangeMessageVisibility": receipts::change;
    b::SendMessageBatch as "sqs:SendMessage": batches::send;
    b::DeleteMessageBatch as "sqs:DeleteMessage": batches::delete;
    b::ChangeMessageVisibilityBatch as "sqs:ChangeMessageVisibility": batches::change;
}

impl Handle<q::CreateQueue> for Sqs {
    /// Decided below, together with the policy of a queue that is there already.
    fn targets(&self, _: &Caller, _: &q::CreateQueueRequest) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: q::CreateQueueRequest,
    ) -> Result<q::CreateQueueResponse, Fault> {
        let tags = Some(&request.tags).filter(|it| !it.is_empty());
        self.authorize(caller, "sqs:CreateQueue", &request.queue_name, tags)?;
        if tags.is_some() {
            self.authorize(caller, "sqs:TagQueue", &request.queue_name, tags)?;
        }
        queues::create(self, request)
    }
}

impl Handle<q::GetQueueUrl> for Sqs {
    fn targets(&self, _: &Caller, _: &q::GetQueueUrlRequest) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: q::GetQueueUrlRequest,
    ) -> Result<q::GetQueueUrlResponse, Fault> {
        self.authorize(caller, "sqs:GetQueueUrl", &request.queue_name, None)?;
        queues::url(self, &request)
    }
}

impl Handle<q::ListQueues> for Sqs {
    async fn handle(
        &self,
        _: &Caller,
        request: q::ListQueuesRequest,
    ) -> Result<q::ListQueuesResponse, Fault> {
        queues::list(self, &request)
    }
}

impl Handle<m::ReceiveMessage> for Sqs {
    /// A message that nobody hears would be gone for its visibility timeout.
    fn waits(&self) -> bool {
        true
    }

    fn targets(&self, _: &Caller, _: &m::ReceiveMessageRequest) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: m::ReceiveMessageRequest,
    ) -> Result<m::ReceiveMessageResponse, Fault> {
        let queue = self.authorized(caller, "sqs:ReceiveMessage", &request.queue_url)?;
        receive::receive(self, &queue, request).await
    }
}

impl Handle<t::TagQueue> for Sqs {
    fn targets(&self, _: &Caller, _: &t::TagQueueRequest) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: t::TagQueueRequest,
    ) -> Result<t::TagQueueResponse, Fault> {
        let name = self.name_of(&request.queue_url)?;
        self.authorize(caller, "sqs:TagQueue", &name, Some(&request.tags))?;
        tags::add(self, &name, request.tags)
    }
}
